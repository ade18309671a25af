import { describe, expect, it } from 'vitest';
import { native } from '../../lib/native/load.ts';
import { ACTIVATIONS, linear, Stream, Tensor, type WeightFormat } from '../../lib/ops/index.ts';
import { another, describeLevels, expectClose, guarded, inPairs } from '../helpers/describe-op.ts';
import { bf16Bits, firstDifference, fromBf16 } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';
import {
  blockOf,
  FORMATS,
  formatsOf,
  isQuantised,
  type Matrix,
  randomMatrix,
  upload,
  weightAt,
} from './matrix.ts';

const roundBf16 = (x: Float32Array) => x.map((v) => fromBf16(bf16Bits(v)));

/** x[T,K] · wᵀ in float64. */
function reference(x: Float32Array, a: Matrix): Float64Array {
  const [N, K] = a.shape;
  const w = Float64Array.from({ length: N * K }, (_, i) => weightAt(a, Math.floor(i / K), i % K));
  return Float64Array.from({ length: (x.length / K) * N }, (_, i) => {
    const t = Math.floor(i / N);
    let sum = 0;
    for (let k = 0; k < K; k++) sum += x[t * K + k]! * w[(i % N) * K + k]!;
    return sum;
  });
}

/**
 * The arithmetic as defined, operation by operation: for blocks of 32 inputs (16 where those share a scale) a chain over the even ones and one over
 * the odd ones, d and m folded in f32; i4_g128 folds d for four blocks at a time, i8 and f8_e4m3 at the end. (A fused multiply-add is one f32 rounding
 * of a float64 expression; the rounding to float64 in between is harmless but for ties, which random data does not hit.)
 */
function defined(x: Float32Array, a: Matrix): Float32Array {
  const f = Math.fround;
  const [N, K] = a.shape;
  const size = a.shared;
  const blocks = Math.ceil(K / size);
  return Float32Array.from({ length: (x.length / K) * N }, (_, i) => {
    const t = Math.floor(i / N);
    const n = i % N;
    let acc = 0;
    let group = 0;
    for (let b = 0; b < blocks; b++) {
      const at = (k: number) => (b * size + k < K ? x[t * K + b * size + k]! : 0);
      const chain = [0, 0];
      for (let k = 0; k < Math.min(size, K - b * size); k++) {
        chain[k % 2] = f(at(k) * a.q[n * K + b * size + k]! + chain[k % 2]!);
      }
      const dot = f(chain[0]! + chain[1]!);
      if (a.format === 'i4_g128') group = f(group + dot);
      else acc = isQuantised(a.format) ? f(a.d[n * blocks + b]! * dot + acc) : f(acc + dot);
      if (a.hasMin || a.format === 'i4_g128') {
        let lanes = Array.from({ length: 16 }, (_, l) => (size === 32 ? f(at(l) + at(l + 16)) : at(l)));
        for (; lanes.length > 1; lanes = lanes.slice(0, lanes.length / 2)) {
          for (let l = 0; l < lanes.length / 2; l++) lanes[l] = f(lanes[l]! + lanes[l + lanes.length / 2]!);
        }
        if (a.format === 'i4_g128') group = f(-8 * lanes[0]! + group);
        else acc = f(a.m[n * blocks + b]! * lanes[0]! + acc);
      }
      if (a.format === 'i4_g128' && (b % 4 === 3 || b === blocks - 1)) {
        acc = f(a.d[n * blocks + b]! * group + acc);
        group = 0;
      }
    }
    return a.format === 'i8' || a.format === 'f8_e4m3' ? f(a.d[n * blocks]! * acc) : acc;
  });
}

/**
 * The arithmetic of pairs (level avx512_bf16): for each block one chain, a pair's odd input before its even one; on the accumulator itself in formats without
 * scales of blocks. i4_g128 is folded by block here.
 */
function definedInPairs(x: Float32Array, a: Matrix): Float32Array {
  const f = Math.fround;
  const [N, K] = a.shape;
  const size = a.shared;
  const blocks = Math.ceil(K / size);
  const scaled = isQuantised(a.format) || a.format === 'i4_g128';
  return Float32Array.from({ length: (x.length / K) * N }, (_, i) => {
    const t = Math.floor(i / N);
    const n = i % N;
    let acc = 0;
    for (let b = 0; b < blocks; b++) {
      const end = Math.min(size, K - b * size);
      const at = (k: number) => (k < end ? x[t * K + b * size + k]! : 0);
      const w = (k: number) => (k < end ? a.q[n * K + b * size + k]! : 0);
      let chain = scaled ? 0 : acc;
      for (let k = 0; k < end; k += 2) chain = f(at(k) * w(k) + f(at(k + 1) * w(k + 1) + chain));
      acc = scaled ? f(a.d[n * blocks + b]! * chain + acc) : chain;
      if (a.hasMin || a.format === 'i4_g128') {
        let lanes = Array.from({ length: 16 }, (_, l) => (size === 32 ? f(at(l) + at(l + 16)) : at(l)));
        for (; lanes.length > 1; lanes = lanes.slice(0, lanes.length / 2)) {
          for (let l = 0; l < lanes.length / 2; l++) lanes[l] = f(lanes[l]! + lanes[l + lanes.length / 2]!);
        }
        const m = a.format === 'i4_g128' ? -8 * a.d[n * blocks + b]! : a.m[n * blocks + b]!;
        acc = f(m * lanes[0]! + acc);
      }
    }
    return a.format === 'i8' || a.format === 'f8_e4m3' ? f(a.d[n * blocks]! * acc) : acc;
  });
}

const shapesOf = (format: WeightFormat) =>
  (
    [
      [16, 32],
      [17, 64],
      [40, 172],
      [96, 576],
      [33, 512],
    ] as const
  ).filter(([, K]) => K % blockOf(format) === 0);
/** K, or as much as whole blocks of the format are. */
const whole = (format: WeightFormat, K: number) => Math.ceil(K / blockOf(format)) * blockOf(format);

async function run(
  s: Stream,
  a: Matrix,
  x: Float32Array,
  activations: number = ACTIVATIONS.bf16,
): Promise<Float32Array> {
  using w = upload(s, a);
  using xt = Tensor.from(s, 'f32', [x.length / a.shape[1], a.shape[1]], x);
  const out = guarded(s, 'f32', [x.length / a.shape[1], a.shape[0]]);
  linear({ x: xt, w, activations, out: out.tensor });
  const got = (await out.read()) as Float32Array;
  out.dispose();
  return got;
}

describeLevels('linear', (stream, backend) => {
  for (const format of formatsOf(backend)) {
    for (const [N, K] of shapesOf(format)) {
      it(`${format} ${N}x${K} against float64 and against its definition`, async () => {
        const random = new Random(N + K);
        const a = randomMatrix(random, format, N, K);
        for (const T of [1, 2, 3, 5, 8, 9, 16, 33]) {
          const x = random.normal(T * K);
          const bf16 = await run(stream(), a, x);
          // Tensor cores cut sums off where the CPU rounds them.
          expectClose(bf16, reference(roundBf16(x), a), backend.cuda ? 1e-5 : 1e-6, `${T} rows, bf16`);
          const f32 = await run(stream(), a, x, ACTIVATIONS.f32);
          expectClose(f32, reference(x, a), 1e-6, `${T} rows, f32`);
          if (!backend.exact) continue;
          const inPairs = backend.pairs && format !== 'f32' && format !== 'f16';
          const want = (inPairs ? definedInPairs : defined)(roundBf16(x), a);
          expect(firstDifference(bf16, want), `${T} rows, bf16`).toBe(-1);
          expect(firstDifference(f32, defined(x, a)), `${T} rows, f32`).toBe(-1);
        }
      });
    }

    it(`${format}: a row does not depend on the rows beside it, nor on the threads`, async () => {
      const [N, K, T] = [80, whole(format, 96), 300];
      const random = new Random(7);
      const a = randomMatrix(random, format, N, K);
      const x = random.normal(T * K);
      const all = await run(stream(), a, x);
      for (let t = 0; t < T; t += 37) {
        const one = await run(stream(), a, x.slice(t * K, (t + 1) * K));
        expect(firstDifference(one, all.slice(t * N, (t + 1) * N)), `row ${t}`).toBe(-1);
      }
      for (const threads of [1, 3]) {
        const other = another(backend, threads);
        expect(firstDifference(await run(other, a, x), all), `${threads} threads`).toBe(-1);
        other.dispose();
      }
    });

    it(`${format}: bias, then residual, in place; strided rows`, async () => {
      const s = stream();
      const [N, K, T] = [50, whole(format, 64), 7];
      const random = new Random(8);
      const a = randomMatrix(random, format, N, K);
      const wide = random.normal(T * (K + 5));
      const x = Float32Array.from({ length: T * K }, (_, i) => wide[Math.floor(i / K) * (K + 5) + (i % K)]!);
      const bias = random.normal(N);
      const residual = random.normal(T * N);
      const plain = await run(s, a, x);
      const want = plain.map((v, i) => Math.fround(v + bias[i % N]!) + residual[i]!);

      using w = upload(s, a);
      using wideT = Tensor.from(s, 'f32', [T, K + 5], wide);
      using xt = wideT.view([T, K], { strides: [K + 5, 1] });
      using biasT = Tensor.from(s, 'f32', [N], bias);
      using stream16 = Tensor.from(s, 'f32', [T, N], residual);
      linear({ x: xt, w, bias: biasT, residual: stream16, out: stream16 });
      expect(firstDifference(await stream16.read(), want), 'in place').toBe(-1);

      using outWide = Tensor.from(s, 'f32', [T, N + 3], new Float32Array(T * (N + 3)).fill(-1));
      using outT = outWide.view([T, N], { strides: [N + 3, 1] });
      linear({ x: xt, w, out: outT });
      const got = (await outWide.read()) as Float32Array;
      for (let t = 0; t < T; t++) {
        const row = got.slice(t * (N + 3), (t + 1) * (N + 3));
        expect(firstDifference(row.slice(0, N), plain.slice(t * N, (t + 1) * N))).toBe(-1);
        expect([...row.slice(N)], 'between the rows').toEqual([-1, -1, -1]);
      }
    });
  }

  it('no rows: an empty output, in every format', async () => {
    for (const format of formatsOf(backend)) {
      const a = randomMatrix(new Random(11), format, 20, whole(format, 64));
      expect(await run(stream(), a, new Float32Array(0)), format).toEqual(new Float32Array(0));
    }
  });

  it('activations: tiny ones are zero, infinities and NaN come through', async () => {
    const a = randomMatrix(new Random(9), 'q4_1', 16, 32);
    a.bytes.fill(0x11); // q = 1 everywhere
    const x = new Float32Array(4 * 32);
    x[0] = 2 ** -99;
    x[32 + 9] = 2 ** -96;
    x[64 + 13] = Number.POSITIVE_INFINITY;
    x[96 + 31] = Number.NaN;
    const got = await run(stream(), a, x);
    if (!backend.cuda) expect(got[0]).toBe(0);
    expect(got[16]).not.toBe(0);
    expect(got[32]).toBe(Number.POSITIVE_INFINITY);
    expect(got[48]).toBeNaN();
  });
});

describe('linear: levels with fused multiply-add', () => {
  const levels = native()
    .machine()
    .levels.filter((l) => l !== 'baseline' && !inPairs(l));
  it.skipIf(levels.length < 2)(`the same bits: ${levels.join(', ')}`, async () => {
    for (const format of FORMATS) {
      const random = new Random(10);
      const K = whole(format, 160);
      const a = randomMatrix(random, format, 72, K);
      for (const T of [1, 2, 3, 6, 7, 17, 40, 273]) {
        const x = random.normal(T * K);
        const results: Float32Array[] = [];
        for (const level of levels) {
          const s = new Stream({ level, threads: 2 });
          results.push(await run(s, a, x));
          s.dispose();
        }
        for (const r of results.slice(1)) expect(firstDifference(r, results[0]!), `${format} ${T}`).toBe(-1);
      }
    }
  });
});
