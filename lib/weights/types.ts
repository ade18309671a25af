import type { WeightDType } from './dtypes.ts';
import type { GgufMetadata } from './gguf-metadata.ts';

/** Where one tensor lies on disk. Nothing of its data has been read. */
export interface TensorInfo {
  name: string;
  dtype: WeightDType;
  /** Row-major, outermost first: [N, K] for a matrix. (A GGUF file lists them the other way round.) */
  shape: number[];
  /** Absolute path of the file that holds the data. */
  file: string;
  /** Bytes from the start of that file; inside it together with `bytes`, both checked. */
  offset: number;
  bytes: number;
}

export interface WeightFile {
  format: 'gguf' | 'safetensors';
  /** Absolute path of what was opened: the file, the first part of a split GGUF, or the index of the shards. */
  path: string;
  /** In the order of the file; for shards, in the order of the index. */
  tensors: Map<string, TensorInfo>;
  /** Sum of the tensors' bytes, which is what loading them as they are needs. */
  totalBytes: number;
  /** Every file the tensors come from, with its size on disk. */
  files: { path: string; bytes: number }[];
  /** The metadata of a GGUF file (of the first part, if split); null for safetensors. */
  metadata: GgufMetadata | null;
}

/** What the parser of one single file returns. */
export interface ParsedFile {
  path: string;
  fileBytes: number;
  tensors: TensorInfo[];
}

export function sumBytes(tensors: Iterable<TensorInfo>): number {
  let sum = 0;
  for (const tensor of tensors) sum += tensor.bytes;
  return sum;
}
