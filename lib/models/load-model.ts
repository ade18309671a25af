import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { EyrieError } from '../errors.ts';
import type { Stream } from '../tensor/stream.ts';
import { openWeights, readJsonFile, type WeightFile } from '../weights/index.ts';
import type { ModelConfig } from './config.ts';
import { configFromGguf } from './gguf-config.ts';
import { configFromHf } from './hf-config.ts';
import { type Activations, LlamaModel } from './llama.ts';
import type { Quantization } from './quantization.ts';
import { readVector } from './read-vector.ts';
import { familyOfArchitecture, familyOfGguf } from './registry.ts';
import { type LoadProgress, WeightLoader } from './weight-loader.ts';

/** A model's files, read as far as their headers. */
export interface ModelFiles {
  path: string;
  weights: WeightFile;
  config: ModelConfig;
}

/** Opens a GGUF file or a folder with config.json and safetensors; nothing but headers is read. */
export async function openModel(path: string): Promise<ModelFiles> {
  try {
    await access(path);
  } catch (cause) {
    throw new EyrieError(
      'EYRIE_FILE',
      `${path} does not exist; MODEL is a .gguf file or a folder with config.json and model.safetensors`,
      { cause },
    );
  }
  const weights = await openWeights(path);
  if (weights.format === 'gguf') return { path, weights, config: await ggufConfig(weights) };
  const where = join(weights.path, '..', 'config.json');
  const json = await readJsonFile(where);
  const architectures = Array.isArray(json.architectures)
    ? json.architectures.filter((a): a is string => typeof a === 'string')
    : [];
  const family = familyOfArchitecture(where, architectures);
  return { path, weights, config: configFromHf(where, json, family.hf) };
}

async function ggufConfig(weights: WeightFile): Promise<ModelConfig> {
  const meta = weights.metadata!;
  const embedding = weights.tensors.get('token_embd.weight');
  if (!embedding)
    throw new EyrieError(
      'EYRIE_CONFIG',
      `${weights.path}: there are no weights in it (no token_embd.weight); a vocabulary file only serves \`eyrie tokenize\``,
    );
  const family = familyOfGguf(weights.path, meta.string('general.architecture'));
  const divisors = weights.tensors.get('rope_freqs.weight');
  return configFromGguf(meta, family.ggufDialect, {
    vocabSize: embedding.shape[0] ?? 0,
    tied: !weights.tensors.has('output.weight'),
    ropeDivisors: divisors ? await readVector(divisors) : null,
  });
}

/** Loads the weights onto a stream. `positions`: length of the rope table. */
export async function loadWeights(
  files: ModelFiles,
  stream: Stream,
  options: {
    activations: Activations;
    positions: number;
    weights?: Quantization | undefined;
    onProgress?: LoadProgress | undefined;
  },
): Promise<LlamaModel> {
  const loader = new WeightLoader(stream, files.weights, options.onProgress, options.weights);
  try {
    return await LlamaModel.load(stream, files.config, loader, {
      ...options,
      totalBytes: files.weights.totalBytes,
    });
  } catch (error) {
    loader.abandon();
    throw error;
  } finally {
    loader.dispose();
  }
}
