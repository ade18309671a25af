import { join } from 'node:path';
import { engineOptions, type LoadOptions, type MemoryPlan, planMemory } from '../engine/index.ts';
import { tokenizerSource } from '../engine/tokenizer-source.ts';
import { EyrieError } from '../errors.ts';
import { type ModelConfig, openModel, weightBytes } from '../models/index.ts';
import { elementCount, openWeights, readJsonFile, type WeightFile } from '../weights/index.ts';

const SHOWN = [
  'hiddenSize',
  'intermediateSize',
  'heads',
  'kvHeads',
  'headDim',
  'maxPositions',
  'vocabSize',
  'tied',
] as const satisfies (keyof ModelConfig)[];

export interface ModelInfo {
  path: string;
  format: WeightFile['format'];
  files: number;
  architecture: string;
  /** Why it cannot be run: another architecture, or a file without weights; null when nothing speaks against it. */
  unsupported: string | null;
  parameters: number;
  tensors: number;
  /** By bytes, largest first. */
  formats: { dtype: string; tensors: number; bytes: number }[];
  config: (Pick<ModelConfig, (typeof SHOWN)[number]> & { layers: number }) | null;
  /** What a load with these options would take. */
  memory: (MemoryPlan & { context: number }) | null;
  tokenizer: { present: boolean; reason: string | null; addsBos: boolean; chatTemplate: boolean };
}

export interface PlanOptions extends Pick<LoadOptions, 'activations' | 'weights' | 'kvDtype'> {
  context?: number;
}

/** Reads headers and the tokenizer, no weights. */
export async function readModelInfo(path: string, options: PlanOptions): Promise<ModelInfo> {
  const weights = await openWeights(path);
  const [config, unsupported] = await unless(async () => (await openModel(path)).config);
  const [source, missing] = await unless(() => tokenizerSource(weights));
  const tensors = [...weights.tensors.values()];
  return {
    path,
    format: weights.format,
    files: weights.files.length,
    architecture: await architectureOf(weights),
    unsupported,
    parameters: tensors.reduce((sum, { shape }) => sum + (elementCount(shape) ?? 0), 0),
    tensors: tensors.length,
    formats: formatsOf(weights),
    config: config && {
      layers: config.layers.length,
      ...(Object.fromEntries(SHOWN.map((key) => [key, config[key]])) as Pick<
        ModelConfig,
        (typeof SHOWN)[number]
      >),
    },
    memory: config && planOf(weights, config, options),
    tokenizer: {
      present: source !== null,
      reason: missing,
      addsBos: source?.addBos ?? false,
      chatTemplate: typeof source?.chatTemplate === 'string',
    },
  };
}

/** A value, or the words of the error that stands in its way. */
async function unless<T>(get: () => Promise<T>): Promise<[T, null] | [null, string]> {
  try {
    return [await get(), null];
  } catch (error) {
    if (error instanceof EyrieError) return [null, error.message];
    throw error;
  }
}

async function architectureOf({ metadata, path }: WeightFile): Promise<string> {
  const key = 'general.architecture';
  if (metadata) return metadata.has(key) ? metadata.string(key) : 'none named';
  const [json] = await unless(() => readJsonFile(join(path, '..', 'config.json')));
  return Array.isArray(json?.architectures) ? json.architectures.join(', ') : 'none named';
}

function formatsOf(weights: WeightFile): ModelInfo['formats'] {
  const formats = new Map<string, ModelInfo['formats'][number]>();
  for (const { dtype, bytes } of weights.tensors.values()) {
    const row = formats.get(dtype) ?? { dtype, tensors: 0, bytes: 0 };
    formats.set(dtype, { dtype, tensors: row.tensors + 1, bytes: row.bytes + bytes });
  }
  return [...formats.values()].sort((a, b) => b.bytes - a.bytes);
}

/** The plan of `load` with its defaults. */
function planOf(file: WeightFile, c: ModelConfig, options: PlanOptions): MemoryPlan & { context: number } {
  const { context, ...rest } = options;
  const engine = engineOptions(c, { ...rest, ...(context === undefined ? {} : { contextLength: context }) });
  return { context: engine.contextLength, ...planMemory(c, weightBytes(file, options.weights), engine) };
}
