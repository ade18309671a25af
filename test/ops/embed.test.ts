import { expect, it } from 'vitest';
import { embed, Tensor } from '../../lib/ops/index.ts';
import { describeLevels, guarded } from '../helpers/describe-op.ts';
import { firstDifference } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';
import { FORMATS, isQuantised, randomMatrix, upload, weightAt } from './matrix.ts';

describeLevels('embed', (stream) => {
  for (const format of FORMATS) {
    const D = isQuantised(format) ? 96 : 76;
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
});
