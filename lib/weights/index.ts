export { byteCount, DTYPES, type DTypeFormat, elementCount, type WeightDType } from './dtypes.ts';
export { GgufMetadata, type GgufValue } from './gguf-metadata.ts';
export { readJsonFile } from './hf-config.ts';
export type { JsonObject } from './json.ts';
export { openWeights } from './open.ts';
export type { TensorInfo, WeightFile } from './types.ts';
