import { describe, expect, it } from 'vitest';
import { type DType, loraExpand, loraShrink, Stream, Tensor } from '../../lib/ops/index.ts';
import {
  another,
  backends,
  describeLevels,
  expectClose,
  guarded,
  streamOptions,
} from '../helpers/describe-op.ts';
import { bf16Bits, f16Bits, firstDifference, fromBf16, fromF16 } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';

type Halves = { bits: (x: number) => number; from: (b: number) => number };
const HALVES: Record<string, Halves> = {
  f16: { bits: f16Bits, from: fromF16 },
  bf16: { bits: bf16Bits, from: fromBf16 },
};

/** Seeded values of a dtype: what a tensor holds, and its numbers. */
function values(
  random: Random,
  dtype: DType,
  n: number,
): { data: Float32Array | Uint16Array; x: Float32Array } {
  const x = random.normal(n);
  const half = HALVES[dtype];
  if (!half) return { data: x, x };
  const data = Uint16Array.from(x, half.bits);
  return { data, x: Float32Array.from(data, half.from) };
}

interface Problem {
  T: number;
  K: number;
  R: number;
  N: number;
  S: number;
  dtype: DType;
}

function problem(p: Problem) {
  const random = new Random(p.T + p.K + p.R);
  const a = values(random, p.dtype, p.S * p.R * p.K);
  const b = values(random, p.dtype, p.S * p.R * p.N);
  const adapter = random.integers(p.T, -1, p.S);
  const x = random.normal(p.T * p.K);
  return { a, b, adapter, x, out: random.normal(p.T * p.N), scale: random.normal(p.S) };
}
type Inputs = ReturnType<typeof problem>;

/** v of every row, and out + scale · v · b, in float64. */
function reference(p: Problem, i: Inputs): { v: Float64Array; out: Float64Array } {
  const v = new Float64Array(p.T * p.R);
  const out = Float64Array.from(i.out);
  for (let t = 0; t < p.T; t++) {
    const s = i.adapter[t]!;
    if (s < 0) continue;
    for (let r = 0; r < p.R; r++)
      for (let k = 0; k < p.K; k++) v[t * p.R + r]! += i.a.x[(s * p.R + r) * p.K + k]! * i.x[t * p.K + k]!;
    for (let n = 0; n < p.N; n++) {
      let sum = 0;
      for (let r = 0; r < p.R; r++) sum += v[t * p.R + r]! * i.b.x[(s * p.R + r) * p.N + n]!;
      out[t * p.N + n]! += i.scale[s]! * sum;
    }
  }
  return { v, out };
}

/** Both halves on the device, one after the other, for the rows [from, to). */
async function run(s: Stream, p: Problem, i: Inputs, from = 0, to = p.T) {
  const T = to - from;
  using x = Tensor.from(s, 'f32', [T, p.K], i.x.slice(from * p.K, to * p.K));
  using adapter = Tensor.from(s, 'i32', [T], Int32Array.from(i.adapter.slice(from, to)));
  using a = Tensor.from(s, p.dtype, [p.S, p.R, p.K], i.a.data);
  using b = Tensor.from(s, p.dtype, [p.S, p.R, p.N], i.b.data);
  using scale = Tensor.from(s, 'f32', [p.S], i.scale);
  using out = Tensor.from(s, 'f32', [T, p.N], i.out.slice(from * p.N, to * p.N));
  const v = guarded(s, 'f32', [T, p.R]);
  loraShrink({ x, a, adapter, v: v.tensor });
  loraExpand({ v: v.tensor, b, scale, adapter, out });
  const got = { v: (await v.read()) as Float32Array, out: (await out.read()) as Float32Array };
  v.dispose();
  return got;
}

const PROBLEMS: Problem[] = [
  { T: 1, K: 64, R: 8, N: 48, S: 1, dtype: 'f32' },
  { T: 6, K: 17, R: 1, N: 1, S: 3, dtype: 'f32' },
  { T: 7, K: 576, R: 5, N: 259, S: 4, dtype: 'bf16' },
  { T: 3, K: 300, R: 16, N: 600, S: 2, dtype: 'f16' },
  { T: 2, K: 2048, R: 64, N: 33, S: 2, dtype: 'bf16' },
  { T: 33, K: 40, R: 18, N: 20, S: 33, dtype: 'f16' },
  { T: 2, K: 8, R: 0, N: 5, S: 1, dtype: 'f32' },
  { T: 2, K: 0, R: 3, N: 5, S: 1, dtype: 'bf16' },
  { T: 0, K: 16, R: 4, N: 16, S: 2, dtype: 'f32' },
  { T: 3, K: 16, R: 4, N: 16, S: 0, dtype: 'bf16' },
];

describeLevels('lora', (stream, backend) => {
  for (const p of PROBLEMS) {
    const name = `${p.T} rows, [${p.S},${p.R}] adapters of ${p.K} to ${p.N}, ${p.dtype}`;
    it(`${name}: float64, and a row alone has the bits of a row in a batch`, async () => {
      const i = problem(p);
      const want = reference(p, i);
      const all = await run(stream(), p, i);
      expectClose(all.v, want.v, 1e-6, 'v');
      expectClose(all.out, want.out, 1e-6, 'out');
      for (let t = 0; t < p.T; t++) {
        if (i.adapter[t]! < 0) {
          expect(
            firstDifference(all.out.subarray(t * p.N, (t + 1) * p.N), i.out.subarray(t * p.N, (t + 1) * p.N)),
          ).toBe(-1);
          expect(all.v.subarray(t * p.R, (t + 1) * p.R).every((v) => Object.is(v, 0))).toBe(true);
        }
        if (t > 8) continue;
        const alone = await run(stream(), p, i, t, t + 1);
        expect(firstDifference(alone.v, all.v.subarray(t * p.R, (t + 1) * p.R)), `v of row ${t}`).toBe(-1);
        expect(firstDifference(alone.out, all.out.subarray(t * p.N, (t + 1) * p.N)), `row ${t}`).toBe(-1);
      }
      using five = another(backend, 5);
      const threads = await run(five, p, i);
      expect(firstDifference(threads.out, all.out)).toBe(-1);
    });
  }

  it('takes strided rows, and writes nothing between them', async () => {
    const s = stream();
    const p: Problem = { T: 4, K: 37, R: 6, N: 29, S: 2, dtype: 'f32' };
    const i = problem(p);
    const want = await run(s, p, i);
    const [xs, vs, ys] = [p.K + 5, p.R + 3, p.N + 7];
    const spread = (rows: Float32Array, width: number, stride: number) => {
      const all = new Float32Array(p.T * stride).fill(9);
      for (let t = 0; t < p.T; t++) all.set(rows.subarray(t * width, (t + 1) * width), t * stride);
      return all;
    };
    using x = Tensor.from(s, 'f32', [p.T * xs], spread(i.x, p.K, xs));
    using v = Tensor.from(s, 'f32', [p.T * vs], spread(want.v, p.R, vs));
    using y = Tensor.from(s, 'f32', [p.T * ys], spread(i.out, p.N, ys));
    using adapter = Tensor.from(s, 'i32', [p.T], Int32Array.from(i.adapter));
    using a = Tensor.from(s, 'f32', [p.S, p.R, p.K], i.a.data);
    using b = Tensor.from(s, 'f32', [p.S, p.R, p.N], i.b.data);
    using scale = Tensor.from(s, 'f32', [p.S], i.scale);
    using xv = x.view([p.T, p.K], { strides: [xs, 1] });
    using vv = v.view([p.T, p.R], { strides: [vs, 1] });
    using yv = y.view([p.T, p.N], { strides: [ys, 1] });
    using shrunk = loraShrink({ x: xv, a, adapter });
    expect(firstDifference((await shrunk.read()) as Float32Array, want.v)).toBe(-1);
    loraExpand({ v: vv, b, scale, adapter, out: yv });
    expect(firstDifference((await y.read()) as Float32Array, spread(want.out, p.N, ys))).toBe(-1);
  });

  for (const type of ['bf16', 'f16'] as const) {
    it.skipIf(!backend.cuda)(
      `activations of ${type} (only CUDA has them): computes in f32 and rounds once`,
      async () => {
        const s = stream();
        const p: Problem = { T: 3, K: 70, R: 9, N: 31, S: 2, dtype: type };
        const i = problem(p);
        const half = HALVES[type]!;
        const [xb, yb] = [Uint16Array.from(i.x, half.bits), Uint16Array.from(i.out, half.bits)];
        const rounded = { ...i, x: Float32Array.from(xb, half.from), out: Float32Array.from(yb, half.from) };
        const want = await run(s, p, rounded);
        using x = Tensor.from(s, type, [p.T, p.K], xb);
        using out = Tensor.from(s, type, [p.T, p.N], yb);
        using adapter = Tensor.from(s, 'i32', [p.T], Int32Array.from(i.adapter));
        using a = Tensor.from(s, type, [p.S, p.R, p.K], i.a.data);
        using b = Tensor.from(s, type, [p.S, p.R, p.N], i.b.data);
        using scale = Tensor.from(s, 'f32', [p.S], i.scale);
        using v = loraShrink({ x, a, adapter });
        loraExpand({ v, b, scale, adapter, out });
        expect(firstDifference((await v.read()) as Float32Array, want.v)).toBe(-1);
        const bits = Uint16Array.from(want.out, half.bits);
        expect(firstDifference(await out.read(), bits)).toBe(-1);
      },
    );
  }

  it('refuses a slot that is not there, and adapters that are not floats', async () => {
    const s = stream();
    using x = Tensor.from(s, 'f32', [2, 4], new Float32Array(8));
    using a = Tensor.from(s, 'f32', [3, 2, 4], new Float32Array(24));
    using adapter = Tensor.from(s, 'i32', [2], Int32Array.of(-1, 3));
    using scale = Tensor.from(s, 'f32', [3], new Float32Array(3));
    using v = loraShrink({ x, a, adapter });
    await expect(v.read()).rejects.toThrow(
      'lora_shrink: adapter[1] is 3, expected a slot of a (-1: none) in [-1, 3)',
    );
    using low = Tensor.from(s, 'i32', [2], Int32Array.of(-2, 0));
    using w = Tensor.from(s, 'f32', [2, 2], new Float32Array(4));
    using out = Tensor.from(s, 'f32', [2, 4], new Float32Array(8));
    loraExpand({ v: w, b: a, scale, adapter: low, out });
    await expect(out.read()).rejects.toThrow(
      'lora_expand: adapter[0] is -2, expected a slot of b (-1: none) in [-1, 3)',
    );
    using ids = Tensor.from(s, 'i32', [3, 2, 4], new Int32Array(24));
    using fine = Tensor.from(s, 'i32', [2], Int32Array.of(0, 0));
    using none = loraShrink({ x, a: ids, adapter: fine });
    await expect(none.read()).rejects.toThrow('lora_shrink: a is i32, expected f32, f16 or bf16');
    const wrong = { x, a, adapter: scale };
    expect(() => loraShrink(wrong)).toThrow('lora_shrink: adapter is f32, expected i32');
  });
});

describe('lora at the exact levels', () => {
  const exact = backends.filter((b) => b.exact);
  it.skipIf(exact.length < 2)('has the same bits (needs a processor with two of them)', async () => {
    const p: Problem = { T: 5, K: 300, R: 7, N: 100, S: 2, dtype: 'bf16' };
    const results = [];
    for (const backend of exact) {
      using s = new Stream(streamOptions(backend, 1));
      results.push(await run(s, p, problem(p)));
    }
    for (const other of results.slice(1)) {
      expect(firstDifference(other.v, results[0]!.v)).toBe(-1);
      expect(firstDifference(other.out, results[0]!.out)).toBe(-1);
    }
  });
});
