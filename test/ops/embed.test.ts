import { expect, it } from 'vitest';
import { embed, Tensor } from '../../lib/ops/index.ts';
import { describeLevels, guarded } from '../helpers/describe-op.ts';
import { bf16Bits, firstDifference } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';
import { blockOf, formatsOf, isQuantised, randomMatrix, upload, weightAt } from './matrix.ts';

describeLevels('embed', (stream, backend) => {
  for (const format of formatsOf(backend)) {
    const D = isQuantised(format) ? Math.max(96, blockOf(format)) : 76;
    for (const withPositions of [false, true]) {
      it(`${format}${withPositions ? ' with positions' : ''}`, async () => {
        const s = stream();
        const random = new Random(5);
        const [V, P, T, scale] = [37, 11, 9, 1.5];
        const a = randomMatrix(random, format, V, D);
        const pos = random.normal(P * D);
        const ids = random.integers(T, 0, V);
        const positions = random.integers(T, 0, P);
        ids[0] = V - 1;
        using table = upload(s, a);
        using idsT = Tensor.from(s, 'i32', [T], ids);
        using posT = Tensor.from(s, 'f32', [P, D], pos);
        using positionsT = Tensor.from(s, 'i32', [T], positions);
        const out = guarded(s, 'f32', [T, D]);
        embed({
          table,
          ids: idsT,
          pos: withPositions ? posT : null,
          positions: withPositions ? positionsT : null,
          scale,
          out: out.tensor,
        });
        const want = Float32Array.from({ length: T * D }, (_, i) => {
          const t = Math.floor(i / D);
          const v = Math.fround(scale * Math.fround(weightAt(a, ids[t]!, i % D)));
          return withPositions ? v + pos[positions[t]! * D + (i % D)]! : v;
        });
        expect(firstDifference(await out.read(), want)).toBe(-1);
        out.dispose();
      });
    }
  }

  it.skipIf(!backend.cuda)('writes bf16, refuses what is out of the tables', async () => {
    const s = stream();
    const random = new Random(6);
    const [V, D] = [20, 600];
    const a = randomMatrix(random, 'f16', V, D);
    using table = upload(s, a);
    using ids = Tensor.from(s, 'i32', [3], Int32Array.of(19, 0, 7));
    const out = guarded(s, 'bf16', [3, D]);
    embed({ table, ids, scale: 3, out: out.tensor });
    const want = Uint16Array.from({ length: 3 * D }, (_, i) =>
      bf16Bits(Math.fround(3 * Math.fround(weightAt(a, [19, 0, 7][Math.floor(i / D)]!, i % D)))),
    );
    expect(firstDifference(await out.read(), want)).toBe(-1);
    out.dispose();
    for (const id of [-1, V]) {
      using bad = Tensor.from(s, 'i32', [2], Int32Array.of(3, id));
      using none = embed({ table, ids: bad, scale: 1 });
      await expect(none.read()).rejects.toThrow(`embed: ids[1] is ${id}, expected a token in [0, ${V})`);
    }
  });
});
