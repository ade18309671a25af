export type { LayerConfig, ModelConfig } from './config.ts';
export { type Activations, LlamaModel } from './llama.ts';
export { loadWeights, type ModelFiles, openModel } from './load-model.ts';
export {
  checkQuantization,
  onlyOnCpu,
  QUANTIZATIONS,
  type Quantization,
  weightBytes,
} from './quantization.ts';
export { FAMILIES, type ModelFamily } from './registry.ts';
export { workspaceBytes } from './workspace.ts';
