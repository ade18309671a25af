export {
  type ResolvedSampling,
  resolveSampling,
  type SamplingColumns,
  type SamplingParams,
} from './params.ts';
export { type Drawn, NO_TOP, type SampleRow, Sampler } from './sampler.ts';
