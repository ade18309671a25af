export type { Controller, FinishReason } from './controller.ts';
export type { Arithmetic } from './device.ts';
export { Engine, type EngineOptions, type SubmitOptions } from './engine.ts';
export { Evaluator } from './evaluate.ts';
export {
  type Choice,
  Generation,
  type GenerationPart,
  type GenerationResult,
  type Timings,
} from './generation.ts';
export {
  type ChatOptions,
  type GenerateOptions,
  LLM,
  type LoadOptions,
  load,
} from './llm.ts';
export { engineOptions, type MemoryPlan, planMemory } from './memory-plan.ts';
export type { Sequence } from './sequence.ts';
export type { TextPart } from './text-controller.ts';
