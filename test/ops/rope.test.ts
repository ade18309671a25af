import { expect, it } from 'vitest';
import { rope, Tensor } from '../../lib/ops/index.ts';
import { describeLevels, expectClose } from '../helpers/describe-op.ts';
import { Random } from '../helpers/random.ts';

/** [P,R]: cos(R/2) then sin(R/2) of each position. */
function angles(P: number, R: number): Float32Array {
  return Float32Array.from({ length: P * R }, (_, i) => {
    const k = i % R;
    const angle = Math.floor(i / R) * 10000 ** ((-2 * (k % (R / 2))) / R);
    return k < R / 2 ? Math.cos(angle) : Math.sin(angle);
  });
}

describeLevels('rope', (stream) => {
  for (const [D, R, offset] of [
    [64, 64, 0],
    [8, 8, 0],
    [128, 128, 0],
    [80, 32, 0],
    [96, 40, 56],
    [20, 6, 7],
  ] as const) {
    for (const interleaved of [false, true]) {
      it(`D ${D}, R ${R} from ${offset}${interleaved ? ', interleaved' : ''}, strided`, async () => {
        const [T, H, P] = [5, 3, 40];
        const random = new Random(D + R);
        const stride = H * D + 11;
        const data = random.normal(T * stride);
        const table = angles(P, R);
        const rows = random.integers(T, 0, P);
        const want = Float64Array.from(data);
        for (let t = 0; t < T; t++) {
          for (let h = 0; h < H; h++) {
            for (let i = 0; i < R / 2; i++) {
              const base = t * stride + h * D + offset;
              const [p, q] = interleaved ? [base + 2 * i, base + 2 * i + 1] : [base + i, base + i + R / 2];
              const c = table[rows[t]! * R + i]!;
              const s = table[rows[t]! * R + R / 2 + i]!;
              want[p] = data[p]! * c - data[q]! * s;
              want[q] = data[q]! * c + data[p]! * s;
            }
          }
        }
        using whole = Tensor.from(stream(), 'f32', [T, stride], data);
        using x = whole.view([T, H, D], { strides: [stride, D, 1] });
        using tableT = Tensor.from(stream(), 'f32', [P, R], table);
        using rowsT = Tensor.from(stream(), 'i32', [T], rows);
        rope({ x, table: tableT, rows: rowsT, offset, interleaved });
        const got = (await whole.read()) as Float32Array;
        expectClose(got, want, 1e-7, 'rope');
        for (let i = 0; i < got.length; i++) if (want[i] === data[i]) expect(got[i]).toBe(data[i]);
      });
    }
  }

  it('refuses rows outside the table and dimensions outside the head', async () => {
    const s = stream();
    using x = Tensor.empty(s, 'f32', [2, 1, 16]);
    using table = Tensor.empty(s, 'f32', [10, 8]);
    using rows = Tensor.from(s, 'i32', [2], Int32Array.of(3, 10));
    rope({ x, table, rows });
    await expect(x.read()).rejects.toThrow('rope: rows[1] is 10, expected a row of table in [0, 10)');
    using good = Tensor.from(s, 'i32', [2], Int32Array.of(3, 9));
    rope({ x, table, rows: good, offset: 9 });
    await expect(x.read()).rejects.toThrow('rope: offset is 9, expected 0 to D - R = 8');
  });
});
