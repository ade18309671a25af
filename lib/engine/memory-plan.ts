import { EyrieError } from '../errors.ts';
import { kvBytes } from '../kv/cache.ts';
import { KV_DTYPES } from '../kv/dtype.ts';
import { type ModelConfig, workspaceBytes } from '../models/index.ts';
import { formatBytes } from '../tensor/memory.ts';
import type { EngineOptions } from './engine.ts';
import type { LoadOptions } from './llm.ts';

/** What a load will allocate, in bytes. */
export interface MemoryPlan {
  weights: number;
  kv: number;
  workspace: number;
  total: number;
}

/**
 * Tokens of a step. On the CPU 256 rows are computed as fast as more, a waiting sequence gets its turn sooner, and what they take
 * is half of what 512 take.
 */
const batchTokens = (device: string): number => (device === 'cpu' ? 256 : 512);

/** The engine's sizes out of the options of `load`, defaults filled in. @throws EyrieError EYRIE_INVALID_ARGUMENT */
export function engineOptions(config: ModelConfig, o: LoadOptions, device: string = 'cpu'): EngineOptions {
  const contextLength = o.contextLength ?? Math.min(config.maxPositions, 4096);
  if (!Number.isInteger(contextLength) || contextLength < 2 || contextLength > config.maxPositions) {
    throw new EyrieError(
      'EYRIE_INVALID_ARGUMENT',
      `contextLength: expected an integer from 2 to the model's ${config.maxPositions}, got ${contextLength}`,
    );
  }
  const positive = (name: 'kvTokens' | 'maxSequences' | 'maxBatchTokens', fallback: number): number => {
    const v = o[name] ?? fallback;
    if (!Number.isInteger(v) || v < 1)
      throw new EyrieError('EYRIE_INVALID_ARGUMENT', `${name}: expected an integer >= 1, got ${v}`);
    return v;
  };
  const activations = o.activations ?? 'auto';
  if (activations !== 'auto' && activations !== 'f32')
    throw new EyrieError(
      'EYRIE_INVALID_ARGUMENT',
      `activations: expected 'auto' or 'f32', got '${String(activations)}'`,
    );
  const kvDtype = o.kvDtype ?? (activations === 'f32' ? 'f32' : 'f16');
  if (!KV_DTYPES.includes(kvDtype))
    throw new EyrieError(
      'EYRIE_INVALID_ARGUMENT',
      `kvDtype: expected ${KV_DTYPES.slice(0, -1).join(', ')} or ${KV_DTYPES.at(-1)}, got '${kvDtype}'`,
    );
  if (o.runAhead !== undefined && typeof o.runAhead !== 'boolean')
    throw new EyrieError(
      'EYRIE_INVALID_ARGUMENT',
      `runAhead: expected true or false, got ${String(o.runAhead)}`,
    );
  return {
    contextLength,
    ...(o.runAhead !== undefined && { runAhead: o.runAhead }),
    kvTokens: positive('kvTokens', contextLength),
    kvDtype,
    maxSequences: positive('maxSequences', 16),
    maxBatchTokens: positive('maxBatchTokens', batchTokens(device)),
  };
}

/**
 * What the kernels of a GPU may take beside the activations: partial sums of split products and of attention, rounded rows, and
 * the buffer that weights are uploaded through.
 */
const CUDA_SCRATCH = 384 * 2 ** 20;

/** What `load` allocates; `weights`: bytes of the tensors. */
export function planMemory(
  c: ModelConfig,
  weights: number,
  e: EngineOptions,
  device: string = 'cpu',
): MemoryPlan {
  const kv = kvBytes({
    layers: c.layers.length,
    kvHeads: c.kvHeads,
    headDim: c.headDim,
    pageSize: 32,
    pages: Math.ceil(e.kvTokens / 32),
    dtype: e.kvDtype,
  });
  const workspace =
    workspaceBytes(c, e.maxBatchTokens, e.maxSequences) +
    e.contextLength * c.rope.dims * 4 +
    (device.startsWith('cuda') ? CUDA_SCRATCH : 0);
  return { weights, kv, workspace, total: weights + kv + workspace };
}

/** @throws EyrieError EYRIE_OUT_OF_MEMORY with the numbers, when the plan exceeds what the device has */
export function checkMemory(path: string, plan: MemoryPlan, device: string, available: number): void {
  if (plan.total <= available) return;
  throw new EyrieError(
    'EYRIE_OUT_OF_MEMORY',
    `${path} needs ${formatBytes(plan.total)} (weights ${formatBytes(plan.weights)}, KV cache ${formatBytes(plan.kv)}, workspace ${formatBytes(plan.workspace)}), ` +
      `${formatBytes(available)} are available${device === 'cpu' ? '' : ` on ${device}`}; lower contextLength or kvTokens, or take a smaller model`,
  );
}
