/** Parts that the benchmarks of this repository reach into. No part of the package's interface: `exports` does not name it. */

export { Engine } from './engine/engine.ts';
export { ModelRunner } from './engine/model-runner.ts';
export { Sequence } from './engine/sequence.ts';
export { BlockPool } from './kv/block-pool.ts';
export { BlockTable } from './kv/block-table.ts';
export { KvCache } from './kv/cache.ts';
export { LlamaModel } from './models/index.ts';
export { BatchBuffer } from './nn/forward-batch.ts';
export { resolveSampling, Sampler } from './sampling/index.ts';
export { openWeights } from './weights/index.ts';
