import { EyrieError } from '../errors.ts';
import { native } from '../native/load.ts';
import type { Handle } from '../native/ops.gen.ts';
import {
  carries,
  DTYPE_BYTES,
  type DType,
  sizeOf,
  type TensorData,
  typedArray,
  type WeightFormat,
} from './dtype.ts';
import type { Stream } from './stream.ts';

/**
 * Memory on a stream's device. Freed by `dispose()` or `using`; the garbage collector is only a safety net, since it knows
 * nothing of the size behind a handle.
 */
export class Tensor {
  readonly stream: Stream;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** The number of this tensor in the native table. @internal */
  readonly handle: Handle;

  /** @internal use {@link Tensor.empty}, {@link Tensor.from}, {@link Tensor.view} */
  constructor(stream: Stream, dtype: DType, shape: readonly number[], handle: Handle) {
    this.stream = stream;
    this.dtype = dtype;
    this.shape = shape;
    this.handle = handle;
    leaks.register(this, handle, this);
  }

  /** A tensor of zeros. @throws EyrieError EYRIE_SHAPE, EYRIE_OUT_OF_MEMORY */
  static empty(stream: Stream, dtype: DType, shape: readonly number[]): Tensor {
    return new Tensor(stream, dtype, [...shape], native().alloc(stream.id, dtype, shape, false));
  }

  /** A tensor with a copy of `data`. f16 and bf16 are given as their bits (Uint16Array). */
  static from(stream: Stream, dtype: DType, shape: readonly number[], data: TensorData): Tensor {
    const t = Tensor.empty(stream, dtype, shape);
    try {
      t.write(data);
    } catch (error) {
      t.dispose();
      throw error;
    }
    return t;
  }

  get size(): number {
    return sizeOf(this.shape);
  }

  get bytes(): number {
    return this.size * DTYPE_BYTES[this.dtype];
  }

  /** Replaces the contents, in stream order; `data` may be changed as soon as this returns. */
  write(data: TensorData): void {
    if (!carries(this.dtype, data)) {
      throw new EyrieError(
        'EYRIE_DTYPE',
        `write: a ${this.dtype} tensor takes ${typedArray(this.dtype, new ArrayBuffer(0)).constructor.name}, got ${data.constructor.name}`,
      );
    }
    native().write(this.stream.id, this.handle, data);
  }

  /** A copy of the contents once everything enqueued before has run. */
  async read(): Promise<TensorData> {
    return typedArray(this.dtype, await native().read(this.stream.id, this.handle));
  }

  /**
   * A view of the same memory. `strides` (in elements) default to dense, `offset` is in elements of this tensor's dtype.
   * A view lives on when this tensor is disposed.
   */
  view(
    shape: readonly number[],
    options: { strides?: readonly number[]; offset?: number; dtype?: DType } = {},
  ): Tensor {
    const dtype = options.dtype ?? this.dtype;
    const offset = (options.offset ?? 0) * DTYPE_BYTES[this.dtype];
    return new Tensor(
      this.stream,
      dtype,
      [...shape],
      native().view(this.handle, dtype, shape, options.strides ?? null, offset),
    );
  }

  /** Frees the handle, and the memory with its last view and enqueued use. Idempotent. */
  dispose(): void {
    leaks.unregister(this);
    native().dispose(this.handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A weight matrix [N,K] packed into tiles for the matrix kernels; made by `ops.packWeight`. */
export class Weight {
  readonly stream: Stream;
  readonly format: WeightFormat;
  /** [outputs N, inputs K] */
  readonly shape: readonly [number, number];
  /** @internal */
  readonly handle: Handle;

  constructor(stream: Stream, format: WeightFormat, shape: readonly [number, number]) {
    this.stream = stream;
    this.format = format;
    this.shape = shape;
    this.handle = native().alloc(stream.id, format, shape, true);
    leaks.register(this, this.handle, this);
  }

  dispose(): void {
    leaks.unregister(this);
    native().dispose(this.handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A file mapped for reading: the source of `ops.packWeight` and `ops.cast`. */
export class MappedFile {
  readonly stream: Stream;
  readonly path: string;
  readonly bytes: number;
  readonly #handle: Handle;

  /** @throws EyrieError EYRIE_FILE when it is missing or does not have `bytes` bytes */
  constructor(stream: Stream, path: string, bytes: number) {
    this.stream = stream;
    this.path = path;
    this.bytes = bytes;
    this.#handle = native().mapFile(path, bytes);
    leaks.register(this, this.#handle, this);
  }

  /** The bytes from `offset` on as a tensor of `dtype`. */
  view(dtype: DType, shape: readonly number[], offset: number): Tensor {
    return new Tensor(
      this.stream,
      dtype,
      [...shape],
      native().view(this.#handle, dtype, shape, null, offset),
    );
  }

  /** Gives the pages behind `view` back to the system, in stream order. */
  discard(view: Tensor): void {
    native().discard(this.stream.id, view.handle);
  }

  dispose(): void {
    leaks.unregister(this);
    native().dispose(this.#handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

const leaks: FinalizationRegistry<Handle> = new FinalizationRegistry((handle: Handle) =>
  native().dispose(handle),
);
