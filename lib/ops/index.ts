/**
 * The kernels themselves, typed, on every device: `import { Stream, Tensor, linear, … } from 'eyrie/ops'`.
 * A call checks its arguments, enqueues on the stream of its tensors and returns; `await tensor.read()` waits.
 */
export { EyrieError } from '../errors.ts';
export { OPS, SAMPLING_COLUMNS } from '../native/ops.gen.ts';
export * from '../tensor/index.ts';
export * from './attention.ts';
export type { Maybe } from './call.ts';
export * from './dense.ts';
export * from './lora.ts';
export * from './sample.ts';
export * from './tree.ts';
export * from './weights.ts';
