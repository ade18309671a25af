import { EyrieError } from '../errors.ts';
import { cast, packWeight, quantizeWeight } from '../ops/weights.ts';
import { FILE_FORMATS, type FileFormat } from '../tensor/dtype.ts';
import type { Stream } from '../tensor/stream.ts';
import { MappedFile, type Tensor, type Weight } from '../tensor/tensor.ts';
import type { TensorInfo, WeightFile } from '../weights/index.ts';
import { ggufName } from './names.ts';
import { type Quantization, quantizedFormat } from './quantization.ts';

const MATRIX_FORMATS: ReadonlySet<string> = new Set(FILE_FORMATS);
const VECTOR_FORMATS: ReadonlySet<string> = new Set(['f32', 'f16', 'bf16']);

/** Bytes read so far, of all bytes that will be. */
export type LoadProgress = (done: number, total: number) => void;

/**
 * Turns named tensors of a file into packed weights and f32 vectors on a stream, values kept exactly unless matrices are to be quantised. Packing is enqueued; each
 * mapped page is given back once it was read, so that a model is never in memory twice.
 */
export class WeightLoader {
  readonly #stream: Stream;
  readonly #file: WeightFile;
  readonly #maps = new Map<string, MappedFile>();
  readonly #progress: LoadProgress | undefined;
  readonly #quantization: Quantization | undefined;
  readonly #made: (Tensor | Weight)[] = [];
  #read = 0;
  #reported = 0;

  constructor(stream: Stream, file: WeightFile, progress?: LoadProgress, quantization?: Quantization) {
    this.#quantization = quantization;
    this.#stream = stream;
    this.#file = file;
    this.#progress = progress;
  }

  #info(name: string): TensorInfo | undefined {
    return this.#file.tensors.get(this.#file.format === 'gguf' ? ggufName(name) : name);
  }

  has(name: string): boolean {
    return this.#info(name) !== undefined;
  }

  #require(name: string, shape: readonly number[], formats: ReadonlySet<string>): TensorInfo {
    const info = this.#info(name);
    if (!info) {
      throw new EyrieError(
        'EYRIE_CONFIG',
        `${this.#file.path}: tensor "${name}" is missing; the file is incomplete or of another architecture than it says`,
      );
    }
    if (info.shape.length !== shape.length || info.shape.some((d, i) => d !== shape[i])) {
      throw new EyrieError(
        'EYRIE_CONFIG',
        `${this.#file.path}: tensor "${info.name}" has shape [${info.shape.join(',')}], the configuration asks for [${shape.join(',')}]`,
      );
    }
    if (!formats.has(info.dtype)) {
      throw new EyrieError(
        'EYRIE_UNSUPPORTED',
        `${this.#file.path}: tensor "${info.name}" is ${info.dtype}; supported here: ${[...formats].join(', ')}. Convert the model to one of them`,
      );
    }
    return info;
  }

  #map(path: string): MappedFile {
    let map = this.#maps.get(path);
    if (!map) {
      const bytes = this.#file.files.find((f) => f.path === path)!.bytes;
      map = new MappedFile(this.#stream, path, bytes);
      this.#maps.set(path, map);
    }
    return map;
  }

  #keep<T extends Tensor | Weight>(made: T): T {
    this.#made.push(made);
    return made;
  }

  /** Frees everything that was made, for a model that could not be completed. */
  abandon(): void {
    for (const t of this.#made) t.dispose();
  }

  #done(map: MappedFile, view: Tensor, bytes: number): void {
    map.discard(view);
    view.dispose();
    this.#read += bytes;
  }

  /** A matrix [N,K]. `permute`: head size whose rows are put into half rotary order. */
  matrix(name: string, shape: readonly [number, number], permute: number = 0): Weight {
    const info = this.#require(name, shape, MATRIX_FORMATS);
    const map = this.#map(info.file);
    const format = this.#quantization && quantizedFormat(this.#file.path, info, this.#quantization);
    const view = format
      ? map.view(info.dtype as 'f32' | 'f16' | 'bf16', shape, info.offset)
      : map.view('u8', [info.bytes], info.offset);
    try {
      return this.#keep(
        format
          ? quantizeWeight(view, format, permute)
          : packWeight(view, info.dtype as FileFormat, shape, permute),
      );
    } finally {
      this.#done(map, view, info.bytes);
    }
  }

  /** A vector [D] as f32. */
  vector(name: string, size: number): Tensor {
    const info = this.#require(name, [size], VECTOR_FORMATS);
    const map = this.#map(info.file);
    const view = map.view(info.dtype as 'f32' | 'f16' | 'bf16', [size], info.offset);
    try {
      return this.#keep(cast(view, 'f32'));
    } finally {
      this.#done(map, view, info.bytes);
    }
  }

  /** Waits for what was enqueued and reports it. */
  async flush(total: number): Promise<void> {
    await this.#stream.sync();
    this.#reported = this.#read;
    this.#progress?.(Math.min(this.#reported, total), total);
  }

  dispose(): void {
    for (const map of this.#maps.values()) map.dispose();
    this.#maps.clear();
  }
}
