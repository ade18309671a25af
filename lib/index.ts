/** eyrie: run, speed up and adapt language models inside Node.js. */

export * from './engine/index.ts';
export { ERROR_CODES, type ErrorCode, EyrieError } from './errors.ts';
export type { ModelConfig } from './models/index.ts';
export type { SamplingParams } from './sampling/index.ts';
export { type ChatMessage, ChatTemplate, Tokenizer } from './tokenizer/index.ts';
