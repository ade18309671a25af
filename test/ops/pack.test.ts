import { expect, it } from 'vitest';
import { embed, packWeight, type Stream, Tensor, type Weight } from '../../lib/ops/index.ts';
import { describeLevels } from '../helpers/describe-op.ts';
import { firstDifference } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';
import { blockOf, formatsOf, isMade, type Matrix, randomMatrix, upload, weightAt } from './matrix.ts';

/** All rows of a packed matrix, read back through embed. */
async function rowsOf(stream: Stream, w: Weight): Promise<Float32Array> {
  using ids = Tensor.from(
    stream,
    'i32',
    [w.shape[0]],
    Int32Array.from({ length: w.shape[0] }, (_, i) => i),
  );
  using out = embed({ table: w, ids });
  return (await out.read()) as Float32Array;
}

/** The rows in the order `source`, as f32: d * q and d * q + m rounded once each, as the kernels do. */
function expected(a: Matrix, source: (n: number) => number): Float32Array {
  const [N, K] = a.shape;
  return Float32Array.from({ length: N * K }, (_, i) => weightAt(a, source(Math.floor(i / K)), i % K));
}

describeLevels('pack_weight', (stream, backend) => {
  for (const format of formatsOf(backend)) {
    for (const [N, K] of [
      [16, 32],
      [17, 64],
      [3, 96],
      [64, 576],
      [50, 172],
      [35, 256],
      [16, 768],
    ] as const) {
      if (K % blockOf(format)) continue;
      it(`keeps every value: ${format} ${N}x${K}`, async () => {
        const a = randomMatrix(new Random(N * K), format, N, K);
        using w = upload(stream(), a);
        expect(
          firstDifference(
            await rowsOf(stream(), w),
            expected(a, (n) => n),
          ),
        ).toBe(-1);
      });
    }

    it(`reorders the rows of each head: ${format}`, async () => {
      const [N, K, head] = [48, Math.max(64, blockOf(format)), 8];
      const a = randomMatrix(new Random(1), format, N, K);
      using w = upload(stream(), a, head);
      const source = (n: number) => {
        const i = n % head;
        return n - i + (i < head / 2 ? 2 * i : 2 * i - head + 1);
      };
      expect(firstDifference(await rowsOf(stream(), w), expected(a, source))).toBe(-1);
    });

    if (isMade(format)) continue;
    it(`takes bytes at any address: ${format}`, async () => {
      const a = randomMatrix(new Random(2), format, 20, Math.max(64, blockOf(format)));
      const shifted = new Uint8Array(a.bytes.length + 3);
      shifted.set(a.bytes, 3);
      using all = Tensor.from(stream(), 'u8', [shifted.length], shifted);
      using src = all.view([a.bytes.length], { offset: 3 });
      using w = packWeight(src, format, a.shape);
      expect(
        firstDifference(
          await rowsOf(stream(), w),
          expected(a, (n) => n),
        ),
      ).toBe(-1);
    });
  }

  it('keeps subnormal scales', async () => {
    const a = randomMatrix(new Random(3), 'q4_1', 16, 32);
    for (let n = 0; n < 16; n++) {
      a.bytes.set([n + 1, 0, 3 * n, 0], n * 20); // d = (n + 1) 2^-24, m = 3 n 2^-24
      a.d[n] = (n + 1) * 2 ** -24;
      a.m[n] = 3 * n * 2 ** -24;
    }
    using w = upload(stream(), a);
    expect(
      firstDifference(
        await rowsOf(stream(), w),
        expected(a, (n) => n),
      ),
    ).toBe(-1);
  });
});
