import { expect, it } from 'vitest';
import {
  cast,
  embed,
  linear,
  quantizeWeight,
  type Stream,
  Tensor,
  type Weight,
} from '../../lib/ops/index.ts';
import { another, describeLevels } from '../helpers/describe-op.ts';
import { firstDifference } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';
import { quantized } from './quantized.ts';

const FORMATS = ['i8', 'f8_e4m3', 'i4_g128', 'q4_0'] as const;

/** All rows of a packed matrix, read back through embed. */
async function rowsOf(stream: Stream, w: Weight): Promise<Float32Array> {
  const [N] = w.shape;
  using ids = Tensor.from(
    stream,
    'i32',
    [N],
    Int32Array.from({ length: N }, (_, i) => i),
  );
  using out = embed({ table: w, ids });
  return (await out.read()) as Float32Array;
}

function expected(
  format: (typeof FORMATS)[number],
  source: Float32Array,
  N: number,
  K: number,
): Float32Array {
  const { q, d } = quantized(format, source, N, K);
  const blocks = Math.ceil(K / 32);
  const zero = format === 'i4_g128' || format === 'q4_0' ? 8 : 0;
  return Float32Array.from(q, (v, i) => d[Math.floor(i / K) * blocks + ((i % K) >> 5)]! * (v - zero));
}

describeLevels('quantize_weight', (stream, backend) => {
  for (const format of FORMATS) {
    it.each([
      [16, 32],
      [1, 5],
      [17, 172],
      [33, 640],
    ])(`${format} %ix%i by its definition`, async (N, K) => {
      const random = new Random(N * K);
      // Rows of very different sizes, as well as outliers.
      const source = random
        .normal(N * K)
        .map((x, i) => x * 10 ** ((Math.floor(i / K) % 7) - 3) * (i % 97 ? 1 : 20));
      using src = Tensor.from(stream(), 'f32', [N, K], source);
      using w = quantizeWeight(src, format);
      expect(firstDifference(await rowsOf(stream(), w), expected(format, source, N, K))).toBe(-1);
    });

    it.each(['f16', 'bf16'] as const)(`${format} of %s, rows reordered`, async (dtype) => {
      const [N, K, head] = [32, 96, 8];
      const source = new Random(5).normal(N * K);
      using exact = Tensor.from(stream(), 'f32', [N * K], source);
      using narrow = cast(exact, dtype);
      using wide = cast(narrow, 'f32');
      const values = (await wide.read()) as Float32Array;
      const rows = Array.from({ length: N }, (_, n) => {
        const i = n % head;
        const from = n - i + (i < head / 2 ? 2 * i : 2 * i - head + 1);
        return Array.from(values.subarray(from * K, (from + 1) * K));
      });
      using src = narrow.view([N, K]);
      using w = quantizeWeight(src, format, head);
      expect(
        firstDifference(await rowsOf(stream(), w), expected(format, Float32Array.from(rows.flat()), N, K)),
      ).toBe(-1);
    });

    it(`${format}: zeros, tiny rows, and what is not finite`, async () => {
      const [N, K] = [18, 160];
      const source = new Random(6).normal(N * K);
      source.fill(0, 0, K);
      source.subarray(K, 2 * K).forEach((x, i, row) => {
        row[i] = x * 2 ** -110;
      });
      source[2 * K + 130] = Number.NaN;
      source[3 * K + 1] = Number.POSITIVE_INFINITY;
      source.fill(-0, 4 * K, 4 * K + 140);
      source.subarray(5 * K, 6 * K).forEach((x, i, row) => {
        row[i] = x * 2 ** -22;
      });
      using src = Tensor.from(stream(), 'f32', [N, K], source);
      using w = quantizeWeight(src, format);
      const got = await rowsOf(stream(), w);
      expect(firstDifference(got, expected(format, source, N, K))).toBe(-1);
      using x = Tensor.from(stream(), 'f32', [1, K], new Float32Array(K).fill(1));
      using y = linear({ x, w });
      const sums = (await y.read()) as Float32Array;
      expect(Array.from(sums, Number.isNaN)).toEqual(Array.from(sums, (_, n) => n === 2 || n === 3));
      expect(sums[0]).toBe(0);
    });
  }

  it('four bits: a group too large for its scale becomes NaN', async () => {
    const source = new Float32Array(64).fill(1);
    source[3] = -7 * 65504;
    source[40] = 8 * 65504;
    using src = Tensor.from(stream(), 'f32', [1, 64], source);
    using w = quantizeWeight(src, 'q4_0');
    const got = await rowsOf(stream(), w);
    expect(got.subarray(0, 32).every(Number.isFinite)).toBe(true);
    expect(got.subarray(32).every(Number.isNaN)).toBe(true);
  });

  it.each([
    ['i32', 'i8', 0, /src is i32, expected f32, f16 or bf16/],
    ['f32', 'q8_0', 0, /q8_0, expected i8, f8_e4m3, i4_g128 or q4_0/],
    ['f32', 'i8', 4, /permute is 4, expected 0 or an even head size that divides N=2/],
  ] as const)('refuses %s as %s, permute %i', async (dtype, format, permute, message) => {
    const s = another(backend, 1);
    const data = dtype === 'i32' ? new Int32Array(64) : new Float32Array(64);
    const src = Tensor.from(s, dtype, [2, 32], data);
    await expect(async () => {
      quantizeWeight(src, format as 'i8', permute);
      await s.sync();
    }).rejects.toThrow(message);
    s.dispose();
  });
});
