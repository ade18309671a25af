import { EyrieError } from '../errors.ts';
import { DTYPE_BYTES, type DType, sizeOf } from './dtype.ts';
import type { Stream } from './stream.ts';
import { Tensor } from './tensor.ts';

/** Every tensor of an arena begins at a multiple of this many bytes: a cache line, a vector. */
const ALIGN = 64;

/**
 * One allocation that is handed out piece by piece and taken back all at once: the memory of a step. Nothing is allocated after
 * the arena was made, so addresses are stable from reset to reset (captured graphs).
 */
export class Arena {
  readonly bytes: number;
  #memory: Tensor;
  #used = 0;
  #tensors: Tensor[] = [];

  /** @throws EyrieError EYRIE_OUT_OF_MEMORY */
  constructor(stream: Stream, bytes: number) {
    this.bytes = Math.ceil(bytes / ALIGN) * ALIGN;
    this.#memory = Tensor.empty(stream, 'u8', [this.bytes]);
  }

  /** Bytes that `shapes` of f32 (or the given dtype) take in an arena. */
  static bytesFor(tensors: readonly { dtype?: DType; shape: readonly number[] }[]): number {
    return tensors.reduce(
      (n, t) => n + Math.ceil((sizeOf(t.shape) * DTYPE_BYTES[t.dtype ?? 'f32']) / ALIGN) * ALIGN,
      0,
    );
  }

  get used(): number {
    return this.#used;
  }

  /** The next piece, contents undefined. The arena owns it: it is disposed by {@link reset}. */
  take(dtype: DType, shape: readonly number[]): Tensor {
    const bytes = Math.ceil((sizeOf(shape) * DTYPE_BYTES[dtype]) / ALIGN) * ALIGN;
    if (this.#used + bytes > this.bytes) {
      throw new EyrieError(
        'EYRIE_OUT_OF_MEMORY',
        `arena: ${dtype}[${shape.join(',')}] needs ${bytes} bytes, ${this.bytes - this.#used} of ${this.bytes} are free; make a larger arena or reset it`,
      );
    }
    const t = this.#memory.view(shape, { dtype, offset: this.#used });
    this.#used += bytes;
    this.#tensors.push(t);
    return t;
  }

  /** Takes everything back. Calls that are enqueued already keep what they read. */
  reset(): void {
    for (const t of this.#tensors) t.dispose();
    this.#tensors = [];
    this.#used = 0;
  }

  dispose(): void {
    this.reset();
    this.#memory.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
