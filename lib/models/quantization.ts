import { EyrieError } from '../errors.ts';
import type { QuantizedFormat } from '../tensor/dtype.ts';
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
/** Bits of an input, and bytes of an output beside. */
const SIZES: Record<QuantizedFormat, [bits: number, bytes: number]> = {
  i8: [8, 4],
  f8_e4m3: [8, 4],
  q4_0: [4.5, 0],
  i4_g128: [4.125, 0],
};

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

/** Bytes that the tensors of a file take when its matrices are quantised. */
export function weightBytes(file: WeightFile, option: Quantization | undefined): number {
  if (!option) return file.totalBytes;
  let total = 0;
  for (const info of file.tensors.values()) {
    const [n, k] = info.shape;
    if (info.shape.length !== 2) {
      total += info.bytes;
      continue;
    }
    const [bits, bytes] = SIZES[quantizedFormat(file.path, info, option)];
    total += Math.ceil((n! * k! * bits) / 8) + n! * bytes;
  }
  return total;
}
