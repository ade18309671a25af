export { type ResolvedSampling, resolveSampling, type SamplingColumns, type SamplingParams } from './params.ts';
export { type Drawn, Sampler, type SampleRow } from './sampler.ts';
