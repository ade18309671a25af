import { expect, it } from 'vitest';
import { NORM, norm, type Stream, Tensor } from '../../lib/ops/index.ts';
import { another, describeLevels, expectClose, guarded } from '../helpers/describe-op.ts';
import { bf16Bits, firstDifference, fromBf16 } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';

interface Options {
  kind: number;
  weight?: Float32Array | null;
  bias?: Float32Array | null;
  eps: number;
}

/** Norm of every row of x[rows,D] in float64; weight and bias repeat over `groups` rows. */
function reference(x: Float32Array, D: number, groups: number, o: Options): Float64Array {
  const out = new Float64Array(x.length);
  for (let r = 0; r < x.length / D; r++) {
    const row = x.subarray(r * D, (r + 1) * D);
    const mean = o.kind === NORM.layer ? row.reduce((a, v) => a + v, 0) / D : 0;
    const square = row.reduce((a, v) => a + (v - mean) ** 2, 0) / D;
    const at = (v: Float32Array, i: number) => v[(v.length === D ? 0 : (r % groups) * D) + i]!;
    for (let i = 0; i < D; i++) {
      out[r * D + i] =
        ((row[i]! - mean) / Math.sqrt(square + o.eps)) * (o.weight ? at(o.weight, i) : 1) +
        (o.bias ? at(o.bias, i) : 0);
    }
  }
  return out;
}

const vector = (s: Stream, v: Float32Array | null | undefined, D: number) =>
  v ? Tensor.from(s, 'f32', [v.length / D, D], v) : null;

async function run(s: Stream, x: Float32Array, shape: readonly number[], o: Options): Promise<Float32Array> {
  const D = shape[2]!;
  using xt = Tensor.from(s, 'f32', shape, x);
  const out = guarded(s, 'f32', shape);
  norm({
    x: xt,
    weight: vector(s, o.weight, D),
    bias: vector(s, o.bias, D),
    eps: o.eps,
    kind: o.kind,
    out: out.tensor,
  });
  const got = (await out.read()) as Float32Array;
  out.dispose();
  return got;
}

describeLevels('norm', (stream, backend) => {
  for (const shape of [
    [1, 1, 8],
    [1, 1, 576],
    [3, 1, 100],
    [5, 4, 64],
    [2, 3, 33],
    [0, 1, 16],
    [4, 1, 4096],
  ]) {
    const [T, G, D] = shape as [number, number, number];
    for (const kind of [NORM.rms, NORM.layer]) {
      for (const rows of [0, 1, G]) {
        it(`kind ${kind} of [${shape}], weight of ${rows} rows`, async () => {
          const random = new Random(D + rows);
          const x = random.normal(T * G * D, 3);
          if (kind === NORM.layer) for (let i = 0; i < x.length; i++) x[i]! += 5;
          const weight = rows ? random.normal(rows * D) : null;
          const bias = rows && kind === NORM.layer ? random.normal(rows * D) : null;
          const o = { kind, weight, bias, eps: 1e-5 };
          expectClose(await run(stream(), x, shape, o), reference(x, D, G, o), 4e-7, 'norm');
        });
      }
    }
  }

  it('reads and writes strided views, in place as well', async () => {
    const s = stream();
    const [T, G, D] = [3, 2, 24];
    const data = new Random(1).normal(200);
    const views = { strides: [61, 29, 1], offset: 5 };
    const x = Float32Array.from({ length: T * G * D }, (_, i) => {
      const t = Math.floor(i / (G * D));
      return data[5 + t * 61 + (Math.floor(i / D) % G) * 29 + (i % D)]!;
    });
    const want = await run(s, x, [T, G, D], { kind: 0, eps: 1e-6 });
    using whole = Tensor.from(s, 'f32', [200], data);
    using view = whole.view([T, G, D], views);
    norm({ x: view, eps: 1e-6, out: view });
    const got = (await whole.read()) as Float32Array;
    const touched = new Set<number>();
    for (let i = 0; i < x.length; i++) {
      const t = Math.floor(i / (G * D));
      const at = 5 + t * 61 + (Math.floor(i / D) % G) * 29 + (i % D);
      touched.add(at);
      expect(got[at]).toBe(want[i]);
    }
    for (let i = 0; i < 200; i++) if (!touched.has(i)) expect(got[i]).toBe(data[i]);
  });

  it('keeps a NaN in its row', async () => {
    const x = new Random(3).normal(3 * 40);
    x[47] = Number.NaN;
    const got = await run(stream(), x, [3, 1, 40], { kind: 0, eps: 1e-6 });
    expect(got.subarray(0, 40).some(Number.isNaN) || got.subarray(80).some(Number.isNaN)).toBe(false);
    expect(got.subarray(40, 80).every(Number.isNaN)).toBe(true);
  });

  it('refuses a bias of RMSNorm and a weight with the wrong number of rows', async () => {
    const s = stream();
    using x = Tensor.empty(s, 'f32', [2, 4, 8]);
    using two = Tensor.empty(s, 'f32', [2, 8]);
    using one = Tensor.empty(s, 'f32', [1, 8]);
    using a = norm({ x, weight: two, eps: 1e-6 });
    await expect(a.read()).rejects.toThrow('norm: the number of rows of weight is 2, expected 4');
    using b = norm({ x, bias: one, eps: 1e-6 });
    await expect(b.read()).rejects.toThrow('norm: bias is given, but RMSNorm (kind 0) has none');
  });

  it('gives a row the same bits alone and in a batch, with any number of threads', async () => {
    const random = new Random(9);
    const x = random.normal(7 * 200);
    const weight = random.normal(200);
    const o = { kind: NORM.layer, weight, eps: 1e-5 };
    using two = another(backend, 2);
    using five = another(backend, 5);
    const all = await run(two, x, [7, 1, 200], o);
    expect(firstDifference(await run(five, x, [7, 1, 200], o), all)).toBe(-1);
    for (let t = 0; t < 7; t++) {
      const alone = await run(two, x.slice(t * 200, (t + 1) * 200), [1, 1, 200], o);
      expect(firstDifference(alone, all.subarray(t * 200, (t + 1) * 200))).toBe(-1);
    }
  });

  it.skipIf(!backend.cuda)('bf16: rounds before the weight or after it', async () => {
    const s = stream();
    const random = new Random(14);
    for (const D of [72, 1500]) {
      const bits = Uint16Array.from(random.normal(4 * D, 3), bf16Bits);
      const weight = random.normal(D);
      const x = Float32Array.from(bits, fromBf16);
      const plain = await run(s, x, [4, 1, D], { kind: NORM.rms, eps: 1e-5 });
      for (const rounding of [0, 1]) {
        using xt = Tensor.from(s, 'bf16', [4, 1, D], bits);
        using wt = Tensor.from(s, 'f32', [1, D], weight);
        const out = guarded(s, 'bf16', [4, 1, D]);
        norm({ x: xt, weight: wt, eps: 1e-5, rounding, out: out.tensor });
        const want = Uint16Array.from(plain, (v, i) =>
          bf16Bits(Math.fround((rounding === 0 ? fromBf16(bf16Bits(v)) : v) * weight[i % D]!)),
        );
        expect(firstDifference(await out.read(), want)).toBe(-1);
        out.dispose();
      }
    }
  });
});
