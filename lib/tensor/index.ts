export { Arena } from './arena.ts';
export type { DType, FileFormat, QuantizedFormat, TensorData, WeightFormat } from './dtype.ts';
export { DTYPE_BYTES, FILE_FORMATS, sizeOf } from './dtype.ts';
export type { StreamOptions } from './stream.ts';
export { Graph, Stream } from './stream.ts';
export { MappedFile, Tensor, Weight } from './tensor.ts';
