import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { native } from '../../lib/native/load.ts';
import {
  type DType,
  Stream,
  type StreamOptions,
  sizeOf,
  Tensor,
  type TensorData,
} from '../../lib/tensor/index.ts';
import { distance } from './floats.ts';

/** The devices and levels an op is tested on here; what this machine lacks becomes a skipped test that says so. */
export interface Backend {
  name: string;
  device: string;
  level: string;
  /** CUDA arithmetic, on a GPU or emulated: other summation orders, approximate exponentials. */
  cuda: boolean;
  /** Whether results must have the bits of the other exact levels (baseline has no fused multiply-add). */
  exact: boolean;
  /** Whether products of bf16 activations are those of pairs, with bits of their own (csrc/cpu/pairs_tile.h). */
  pairs: boolean;
}

/** Whether a CPU level has bits of its own in products. */
export const inPairs = (level: string): boolean => level === 'avx512_bf16';

const machine = native().machine();

/** The streams that ops are tested on here: `'cuda:0'` with a GPU, `'emulated'` in the build of `npm run test:emulated`. */
const devices = [
  ...(machine.cuda.devices > 0 ? ['cuda:0'] : []),
  ...(machine.cuda.emulated ? ['emulated'] : []),
];

/** Another stream on the same device and level, with another number of threads where there are threads. */
export function another(backend: Backend, threads: number): Stream {
  return new Stream(streamOptions(backend, threads));
}

const cudaOnly = process.env.EYRIE_TEST_DEVICES === 'cuda';

/** What is tested here: every level of this CPU and every CUDA device; with EYRIE_TEST_DEVICES=cuda only the latter. */
export const backends: readonly Backend[] = [
  ...(cudaOnly ? [] : machine.levels).map((level) => ({
    name: `cpu ${level}`,
    device: 'cpu',
    level,
    cuda: false,
    exact: level !== 'baseline',
    pairs: inPairs(level),
  })),
  ...devices.map((device) => ({ name: device, device, level: '', cuda: true, exact: false, pairs: false })),
];

/** The options of a stream on a backend. */
export function streamOptions(backend: Backend, threads: number): StreamOptions {
  return backend.cuda ? { device: backend.device } : { level: backend.level, threads };
}

/**
 * Runs `body` once per level that this CPU has, with a stream of `threads` threads, and once per CUDA device; skips the
 * levels that are missing aloud.
 */
export function describeLevels(
  title: string,
  body: (stream: () => Stream, backend: Backend) => void,
  threads: number = 2,
): void {
  describe(title, () => {
    for (const backend of backends) {
      describe(backend.name, () => {
        let stream: Stream;
        beforeAll(() => {
          stream = another(backend, threads);
        });
        afterAll(() => {
          stream.dispose();
        });
        body(() => stream, backend);
      });
    }
    if (cudaOnly) return;
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
