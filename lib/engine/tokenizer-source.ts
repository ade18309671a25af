import { dirname } from 'node:path';
import { sourceFromFolder, sourceFromGguf, type TokenizerSource } from '../tokenizer/index.ts';
import type { WeightFile } from '../weights/index.ts';

/** The tokenizer of a model: inside a GGUF, or beside safetensors. */
export async function tokenizerSource(weights: WeightFile): Promise<TokenizerSource> {
  return weights.metadata ? sourceFromGguf(weights.metadata) : sourceFromFolder(dirname(weights.path));
}
