import { EyrieError } from '../errors.ts';
import { native } from '../native/load.ts';
import { FILE_FORMATS, type QuantizedFormat, sizeOf } from '../tensor/dtype.ts';
import type { TensorInfo, WeightFile } from '../weights/index.ts';

/** What `load` may make of a model's matrices of floats. */
export type Quantization = 'int8' | 'fp8' | 'int4' | 'int4-g128';

/** The head and the embedding, often one matrix, keep 8 bits beside layers of 4: they decide about the token directly (`bench/results/README.md`, Accuracy). */
const FORMATS: Record<Quantization, { layers: QuantizedFormat; head: QuantizedFormat }> = {
  int8: { layers: 'i8', head: 'i8' },
  fp8: { layers: 'f8_e4m3', head: 'f8_e4m3' },
  int4: { layers: 'q4_0', head: 'i8' },
  'int4-g128': { layers: 'i4_g128', head: 'i8' },
};
export const QUANTIZATIONS = Object.keys(FORMATS) as Quantization[];

const HEADS: ReadonlySet<string> = new Set([
  'model.embed_tokens.weight',
  'lm_head.weight',
  'token_embd.weight',
  'output.weight',
]);
const FLOATS: ReadonlySet<string> = new Set(['f32', 'f16', 'bf16']);
/** @throws EyrieError EYRIE_INVALID_ARGUMENT for anything but an option of `load` or undefined */
export function checkQuantization(option: unknown): asserts option is Quantization | undefined {
  if (option === undefined || QUANTIZATIONS.some((q) => q === option)) return;
  throw new EyrieError(
    'EYRIE_INVALID_ARGUMENT',
    `weights: expected ${QUANTIZATIONS.map((q) => `'${q}'`).join(', ')}, or nothing to keep what the file has, got '${String(option)}'`,
  );
}

/**
 * The format that a matrix gets.
 * @throws EyrieError EYRIE_UNSUPPORTED for a matrix that is no float
 */
export function quantizedFormat(path: string, info: TensorInfo, option: Quantization): QuantizedFormat {
  if (!FLOATS.has(info.dtype))
    throw new EyrieError(
      'EYRIE_UNSUPPORTED',
      `${path}: tensor "${info.name}" is ${info.dtype} already, and weights: '${option}' quantises f32, f16 and bf16; load it without the option, or take the model in floats`,
    );
  const { layers, head } = FORMATS[option];
  return HEADS.has(info.name) ? head : layers;
}

const isMatrix = (info: TensorInfo): boolean =>
  info.shape.length === 2 && FILE_FORMATS.some((format) => format === info.dtype);

/**
 * Bytes that the tensors of a file take once they are loaded: matrices in tiles (`csrc/core/tiles.h`), in the formats they have or get, and vectors of
 * floats in f32.
 */
export function weightBytes(file: WeightFile, option: Quantization | undefined): number {
  let total = 0;
  for (const info of file.tensors.values()) {
    const [n, k] = info.shape;
    if (isMatrix(info)) {
      const format = option ? quantizedFormat(file.path, info, option) : info.dtype;
      total += native().weightFormat(format, n!, k!).bytes;
    } else {
      total += FLOATS.has(info.dtype) ? 4 * sizeOf(info.shape) : info.bytes;
    }
  }
  return total;
}

/** A matrix of the file whose format only the CPU has, if there is one. */
export function onlyOnCpu(file: WeightFile): TensorInfo | undefined {
  for (const info of file.tensors.values())
    if (isMatrix(info) && !native().weightFormat(info.dtype, 0, 0).onDevices) return info;
  return undefined;
}
