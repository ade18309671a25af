import { expect, it } from 'vitest';
import {
  ACTIVATION,
  act,
  add,
  cast,
  clamp,
  type DType,
  glu,
  logits,
  Tensor,
  takeRows,
} from '../../lib/ops/index.ts';
import { describeLevels, expectClose, guarded } from '../helpers/describe-op.ts';
import { bf16Bits, f16Bits, firstDifference, fromBf16, fromF16 } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';

/** erf by its series below 3 and its continued fraction above: 1e-15. */
function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 3) {
    let f = 0;
    for (let k = 60; k > 0; k--) f = k / 2 / (a + f);
    return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + f));
  }
  let sum = 0;
  let term = a;
  for (let n = 0; n < 100; n++) {
    sum += term / (2 * n + 1);
    term *= (-a * a) / (n + 1);
  }
  return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
}

const activations: Record<string, (g: number) => number> = {
  silu: (g) => g / (1 + Math.exp(-g)),
  gelu_tanh: (g) => 0.5 * g * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (g + 0.044715 * g ** 3))),
  gelu_erf: (g) => 0.5 * g * (1 + erf(g / Math.SQRT2)),
  relu2: (g) => Math.max(g, 0) ** 2,
  sigmoid: (g) => 1 / (1 + Math.exp(-g)),
};

/** Values over many magnitudes, with the ends of the number line. */
function spread(n: number): Float32Array {
  const random = new Random(11);
  const x = random.normal(n, 3);
  for (let i = 0; i < n; i += 3) x[i]! *= 2 ** random.integer(-20, 6);
  x.set([0, -0, 88.5, -88.5, 200, -200, 1e30, -1e30].slice(0, n));
  return x;
}

describeLevels('elementwise', (stream, backend) => {
  const shapes = [
    [1, 1],
    [3, 37],
    [1, 2500],
    [0, 8],
  ] as const;

  for (const [name, f] of Object.entries(activations)) {
    const kind = ACTIVATION[name as keyof typeof ACTIVATION];
    it(`act ${name}`, async () => {
      for (const [T, I] of shapes) {
        const x = spread(T * I);
        using xt = Tensor.from(stream(), 'f32', [T, I], x);
        const out = guarded(stream(), 'f32', [T, I]);
        act({ x: xt, kind, out: out.tensor });
        const got = (await out.read()) as Float32Array;
        out.dispose();
        for (let i = 0; i < got.length; i++) {
          const want = Math.fround(f(x[i]!));
          // 1 + tanh and 1 + erf cancel for negative arguments: absolute in x there.
          const slack = 4e-7 * Math.abs(want) + 1.5e-7 * Math.min(Math.abs(x[i]!), 40);
          if (!(Math.abs(got[i]! - want) <= slack + 1e-37) && got[i] !== want)
            expect.fail(`${name}(${x[i]}) = ${got[i]}, expected ${want}`);
        }
      }
    });

    it(`glu ${name}, strided`, async () => {
      const [T, I] = [3, 45];
      const random = new Random(kind);
      const both = random.normal(T * 2 * I, 2); // gate | up in one row, as a merged projection leaves them
      using whole = Tensor.from(stream(), 'f32', [T, 2 * I], both);
      using gate = whole.view([T, I], { strides: [2 * I, 1] });
      using up = whole.view([T, I], { strides: [2 * I, 1], offset: I });
      const out = guarded(stream(), 'f32', [T, I]);
      glu({ gate, up, kind, out: out.tensor });
      const want = Float64Array.from({ length: T * I }, (_, i) => {
        const at = Math.floor(i / I) * 2 * I + (i % I);
        return f(both[at]!) * both[at + I]!;
      });
      expectClose(await out.read(), want, 3e-7, name);
      out.dispose();
    });
  }

  it('glu oai clamps gate and up', async () => {
    const [T, I, limit, alpha] = [2, 33, 7, 1.702];
    const random = new Random(2);
    const [g, u] = [random.normal(T * I, 6), random.normal(T * I, 6)];
    using gate = Tensor.from(stream(), 'f32', [T, I], g);
    using up = Tensor.from(stream(), 'f32', [T, I], u);
    using out = glu({ gate, up, kind: ACTIVATION.oai, limit, alpha });
    const want = g.map((v, i) => {
      const a = Math.min(v, limit);
      return (a / (1 + Math.exp(-alpha * a))) * (Math.max(-limit, Math.min(limit, u[i]!)) + 1);
    });
    expectClose((await out.read()) as Float32Array, want, 3e-7, 'oai');
  });

  it('passes NaN and infinity through', async () => {
    using x = Tensor.from(stream(), 'f32', [1, 2], Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY));
    for (const name of Object.keys(activations)) {
      using out = act({ x, kind: ACTIVATION[name as keyof typeof ACTIVATION] });
      expect(Array.from((await out.read()) as Float32Array)).toEqual([
        Number.NaN,
        name === 'sigmoid' ? 1 : Number.POSITIVE_INFINITY,
      ]);
    }
  });

  it('add', async () => {
    for (const alpha of [1, -0.37]) {
      const random = new Random(4);
      const [a, b] = [random.normal(3 * 50), random.normal(3 * 50)];
      using x = Tensor.from(stream(), 'f32', [3, 50], a);
      using y = Tensor.from(stream(), 'f32', [3, 50], b);
      const out = guarded(stream(), 'f32', [3, 50]);
      add({ x, y, alpha, out: out.tensor });
      expectClose(
        await out.read(),
        a.map((v, i) => v + Math.fround(alpha) * b[i]!),
        1e-7,
        'add',
      );
      out.dispose();
      add({ x, y, alpha, out: x }); // in place
      expectClose(
        await x.read(),
        a.map((v, i) => v + Math.fround(alpha) * b[i]!),
        1e-7,
        'add in place',
      );
    }
  });

  it('clamp', async () => {
    for (const [t, d] of [
      [3, 50],
      [1, 1],
      [0, 7],
    ] as const) {
      const values = new Random(9).normal(t * d, 3);
      if (t === 3) values.set([Number.NaN, Infinity, -Infinity, 1.5, -0.25]);
      using x = Tensor.from(stream(), 'f32', [t, d], values);
      const out = guarded(stream(), 'f32', [t, d]);
      clamp({ x, low: -0.25, high: 1.5, out: out.tensor });
      const want = values.map((v) => (Number.isNaN(v) ? -0.25 : Math.min(Math.max(v, -0.25), 1.5)));
      expect(await out.read()).toEqual(want);
      out.dispose();
    }
  });

  it('casts between all float types, rounding to nearest even', async () => {
    const bits: Record<string, (v: number) => number> = { f16: f16Bits, bf16: bf16Bits };
    const from: Record<string, (v: number) => number> = { f16: fromF16, bf16: fromBf16 };
    const random = new Random(6);
    const x = random.normal(75, 1);
    for (let i = 0; i < x.length; i++) x[i]! *= 2 ** random.integer(-14, 15);
    x.set([Infinity, -Infinity, 0, -0, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 65519, 65520, 3e38, 1e-7, 6e-8, 2e-8]);
    using source = Tensor.from(stream(), 'f32', [75], x);
    for (const type of ['f16', 'bf16'] as DType[]) {
      const half = guarded(stream(), type, [75]);
      cast(source, type, half.tensor);
      const got = (await half.read()) as Uint16Array;
      for (let i = 0; i < 75; i++) expect(got[i], `${x[i]} as ${type}`).toBe(bits[type]!(x[i]!));
      using back = cast(half.tensor, 'f32');
      expect(firstDifference(await back.read(), Float32Array.from(got, from[type]!))).toBe(-1);
      for (const other of ['f16', 'bf16'] as DType[]) {
        using again = cast(half.tensor, other);
        expect(
          firstDifference(
            await again.read(),
            Uint16Array.from(got, (h) => bits[other]!(from[type]!(h))),
          ),
        ).toBe(-1);
      }
      half.dispose();
    }
    using ids = Tensor.empty(stream(), 'i32', [4]);
    using wrong = cast(ids, 'f32');
    await expect(wrong.read()).rejects.toThrow('cast: src is i32, expected f32, f16 or bf16');
  });

  it('casts every f16 exactly', async () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
    using half = Tensor.from(stream(), 'f16', [65536], all);
    using out = cast(half, 'f32');
    const got = (await out.read()) as Float32Array;
    for (let i = 0; i < 65536; i++) if (!Object.is(got[i], fromF16(i))) expect.fail(`f16 ${i}: ${got[i]}`);
  });

  it('take_rows gathers, also from a strided x', async () => {
    const data = new Random(8).normal(6 * 20);
    using whole = Tensor.from(stream(), 'f32', [6, 20], data);
    using x = whole.view([6, 13], { strides: [20, 1], offset: 3 });
    using rows = Tensor.from(stream(), 'i32', [4], Int32Array.of(5, 0, 5, 2));
    const out = guarded(stream(), 'f32', [4, 13]);
    takeRows({ x, rows, out: out.tensor });
    const want = [5, 0, 5, 2].flatMap((r) => Array.from(data.subarray(r * 20 + 3, r * 20 + 16)));
    expect(Array.from((await out.read()) as Float32Array)).toEqual(want);
    out.dispose();
    using bad = Tensor.from(stream(), 'i32', [2], Int32Array.of(0, 6));
    using none = takeRows({ x, rows: bad });
    await expect(none.read()).rejects.toThrow('take_rows: rows[1] is 6, expected a row of x in [0, 6)');
  });

  it('logits scales, caps and cuts in place', async () => {
    const [R, V] = [2, 1500];
    const x = new Random(10).normal(R * V, 20);
    for (const [scale, softcap, valid] of [
      [1, 0, V],
      [0.3, 0, 1203],
      [1, 30, V],
      [2, 10, 1000],
    ] as const) {
      using t = Tensor.from(stream(), 'f32', [R, V], x);
      logits({ x: t, scale, softcap, valid });
      const want = x.map((v, i) => {
        const y = Math.fround(scale) * v;
        if (i % V >= valid) return Number.NEGATIVE_INFINITY;
        return softcap ? softcap * Math.tanh(y / softcap) : y;
      });
      expectClose(await t.read(), want, 2e-7, `${scale} ${softcap} ${valid}`);
    }
  });

  for (const type of ['bf16', 'f16'] as const) {
    it.skipIf(!backend.cuda)(`${type}: computes in f32 and rounds once`, async () => {
      const s = stream();
      const [T, I] = [3, 1100];
      const random = new Random(12);
      const [bits, from] = type === 'bf16' ? [bf16Bits, fromBf16] : [f16Bits, fromF16];
      const halves = () => Uint16Array.from(random.normal(T * I, 2), bits);
      const [a, b] = [halves(), halves()];
      const wide = (h: Uint16Array) => Tensor.from(s, 'f32', [T, I], Float32Array.from(h, from));
      const narrow = (h: Uint16Array) => Tensor.from(s, type, [T, I], h);
      const [x32, y32, x16, y16] = [wide(a), wide(b), narrow(a), narrow(b)];
      const rows = Tensor.from(s, 'i32', [T], Int32Array.of(2, 0, 2));
      const ops: Record<string, (x: Tensor, y: Tensor, out: Tensor) => void> = {
        add: (x, y, out) => add({ x, y, alpha: 0.3, out }),
        clamp: (x, _, out) => clamp({ x, low: -1, high: 1.5, out }),
        takeRows: (x, _, out) => takeRows({ x, rows, out }),
        act: (x, _, out) => act({ x, kind: ACTIVATION.silu, out }),
        glu: (gate, up, out) => glu({ gate, up, kind: ACTIVATION.gelu_tanh, out }),
        logits: (x, _, out) => {
          takeRows({ x, rows, out });
          logits({ x: out, scale: 0.5, softcap: 3, valid: 1000 });
        },
      };
      for (const [name, op] of Object.entries(ops)) {
        const out32 = guarded(s, 'f32', [T, I]);
        const out16 = guarded(s, type, [T, I]);
        op(x32, y32, out32.tensor);
        op(x16, y16, out16.tensor);
        const want = Uint16Array.from(await out32.read(), bits);
        expect(firstDifference(await out16.read(), want), name).toBe(-1);
        for (const out of [out32, out16]) out.dispose();
      }
      for (const t of [x32, y32, x16, y16, rows]) t.dispose();
    });
  }
});
