export {
  type ChatMessage,
  ChatTemplate,
  type ContentPart,
  type RenderOptions,
} from './chat-template.ts';
export { sourceFromFolder } from './folder.ts';
export { type GgufLike, sourceFromGguf } from './gguf.ts';
export type { TokenizerSource } from './source.ts';
export { StreamDecoder } from './stream-decoder.ts';
export { type DecodeOptions, type EncodeOptions, Tokenizer } from './tokenizer.ts';
