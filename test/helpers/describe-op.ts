import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { native } from '../../lib/native/load.ts';
import { type DType, Stream, sizeOf, Tensor, type TensorData } from '../../lib/tensor/index.ts';
import { distance } from './floats.ts';

/** The devices and levels an op is tested on here; what this machine lacks becomes a skipped test that says so. */
export interface Backend {
  name: string;
  level: string;
  /** Whether results must have the bits of the other exact levels (baseline has no fused multiply-add). */
  exact: boolean;
}

const machine = native().machine();

/** Runs `body` once per level that this CPU has, with a stream of `threads` threads; skips the others aloud. */
export function describeLevels(
  title: string,
  body: (stream: () => Stream, backend: Backend) => void,
  threads: number = 2,
): void {
  describe(title, () => {
    for (const level of machine.levels) {
      describe(`cpu ${level}`, () => {
        let stream: Stream;
        beforeAll(() => {
          stream = new Stream({ level, threads });
        });
        afterAll(() => {
          stream.dispose();
        });
        body(() => stream, { name: `cpu ${level}`, level, exact: level !== 'baseline' });
      });
    }
    for (const level of machine.missingLevels) {
      it.skip(`cpu ${level}: this processor (${machine.cpu}) lacks its instructions`, () => {});
    }
  });
}

/** Guard words around a dense output: written before, checked after. */
const GUARD = 16;

/**
 * A dense output tensor inside a larger poisoned buffer: every element starts as a poison value (NaN for floats), and
 * `check()` fails when the op wrote before or past it.
 */
export function guarded(
  stream: Stream,
  dtype: DType,
  shape: readonly number[],
): { tensor: Tensor; read(): Promise<TensorData>; dispose(): void } {
  const n = sizeOf(shape);
  const poison =
    dtype === 'f32'
      ? new Float32Array(n + 2 * GUARD).fill(Number.NaN)
      : dtype === 'i32'
        ? new Int32Array(n + 2 * GUARD).fill(-0x5a5a5a5a)
        : dtype === 'u8'
          ? new Uint8Array(n + 2 * GUARD).fill(0xa5)
          : new Uint16Array(n + 2 * GUARD).fill(0x7e01);
  const whole = Tensor.from(stream, dtype, [n + 2 * GUARD], poison);
  const tensor = whole.view(shape, { offset: GUARD });
  return {
    tensor,
    async read() {
      const all = await whole.read();
      for (let i = 0; i < GUARD; i++) {
        expect(Object.is(all[i], poison[0]), `guard word ${i} before the output`).toBe(true);
        expect(Object.is(all[GUARD + n + i], poison[0]), `guard word ${i} past the output`).toBe(true);
      }
      return all.slice(GUARD, GUARD + n);
    },
    dispose() {
      tensor.dispose();
      whole.dispose();
    },
  };
}

/** Fails with both errors when `got` is further from `want` than `tolerance` (relative to the norm of `want`). */
export function expectClose(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  tolerance: number,
  label: string,
): void {
  expect(got.length, `${label}: length`).toBe(want.length);
  const d = distance(got, want);
  expect(d.relative, `${label}: relative error ${d.relative}, largest ${d.max}`).toBeLessThanOrEqual(
    tolerance,
  );
}
