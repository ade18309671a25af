import { EyrieError } from '../errors.ts';
import { pickValue } from './json-scan.ts';

/** All that is needed to make a {@link Tokenizer} and a {@link ChatTemplate}, wherever it came from. */
export interface TokenizerSource {
  /**
   * Text of a tokenizer.json. It has megabytes that are needed once or twice, so reading it may make it anew from the file's bytes:
   * keep the source instead.
   */
  readonly json: string;
  /** Highest id + 1, when it is known without a search. */
  vocabSize?: number;
  /** Ids that end a generation. */
  eosIds: number[];
  bosId: number | null;
  /** Whether plain text is encoded with `bosId` in front, unless the caller says otherwise. */
  addBos: boolean;
  chatTemplate: string | null;
  /** Special tokens as text, by the names that templates use: `bos_token`, `eos_token`, … */
  templateVars: Record<string, string>;
}

/** A row of `added_tokens` of a tokenizer.json. */
export interface AddedToken {
  id: number;
  content: string;
  single_word: boolean;
  lstrip: boolean;
  rstrip: boolean;
  normalized: boolean;
  special: boolean;
}

/** The added tokens of a tokenizer.json, without parsing its vocabulary. */
export function addedTokensOf(json: string): AddedToken[] {
  return (parseSection(json, 'added_tokens') ?? []) as AddedToken[];
}

/** One top-level value of a tokenizer.json; undefined when it is absent. */
export function parseSection(json: string, key: string): unknown {
  const text = pickValue(json, key);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new EyrieError('EYRIE_TOKENIZER', `tokenizer.json is malformed: "${key}" is no valid JSON`, {
      cause,
    });
  }
}
