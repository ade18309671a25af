/**
 * Every error of eyrie carries a stable code. The message says which argument, what was expected, what came,
 * and what to do next. `ERROR_CODES` documents each code; a test compares it with the codes used in the sources.
 */
export const ERROR_CODES = {
  EYRIE_INVALID_ARGUMENT: 'An argument has the wrong type, range or combination.',
  EYRIE_SHAPE: 'A tensor does not have the shape that an op expects.',
  EYRIE_DTYPE: 'A tensor does not have the dtype that an op expects.',
  EYRIE_DISPOSED: 'A tensor, stream, graph or model is used after it was disposed.',
  EYRIE_UNSUPPORTED: 'The value is meaningful, but not built (yet) on this device or for this model.',
  EYRIE_NATIVE_LOAD: 'No native addon could be loaded on this machine.',
  EYRIE_NO_DEVICE: 'The device asked for is not usable on this machine.',
  EYRIE_OUT_OF_MEMORY: 'Not enough memory; the message has the numbers.',
  EYRIE_FILE: 'A file or folder is missing or cannot be read.',
  EYRIE_GGUF: 'A GGUF file is malformed.',
  EYRIE_SAFETENSORS: 'A safetensors file is malformed.',
  EYRIE_CONFIG: 'A model configuration is missing, malformed or contradicts the weights.',
  EYRIE_ARCHITECTURE: 'The model architecture is not supported.',
  EYRIE_TOKENIZER: 'A tokenizer is missing, malformed or disagrees with the vocabulary of the model.',
  EYRIE_TEMPLATE: 'A chat template is missing, malformed, too slow or refuses the messages.',
  EYRIE_CONTEXT_LENGTH: 'Prompt and requested tokens do not fit the context.',
  EYRIE_EXECUTION: 'A kernel refused its data while it ran on a stream.',
  EYRIE_NON_FINITE: 'A kernel wrote NaN or infinity (looked for when EYRIE_DEBUG=1).',
  EYRIE_ABORTED: 'The operation was aborted by its signal or because its engine was closed.',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** The error class of eyrie: an `Error` with a `code` of {@link ERROR_CODES}. */
export class EyrieError extends Error {
  override readonly name = 'EyrieError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
