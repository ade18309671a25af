import { EyrieError } from '../errors.ts';
import { mergesFromScores, writeBpeModel } from './gguf-model.ts';
import { PRE_TOKENIZERS } from './gguf-pre.ts';
import { JsonText } from './json-text.ts';
import type { AddedToken, TokenizerSource } from './source.ts';
import { type PackedTexts, packedTexts, type TextList } from './text-list.ts';

/**
 * What is asked of the metadata of a GGUF file; `GgufMetadata` of lib/weights is one. A getter is only called for a
 * key that `has` affirms.
 */
export interface GgufLike {
  has(key: string): boolean;
  string(key: string): string;
  /** An integer or float of any width. */
  number(key: string): number;
  boolean(key: string): boolean;
  /** An array of numbers. */
  numbers(key: string): ArrayLike<number>;
  /** An array of strings, as the bytes of all and the borders of each. */
  packedStrings(key: string): PackedTexts;
}

// Values of tokenizer.ggml.token_type.
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const BYTE = 6;

/** Control tokens that end a turn or a text. Older files name only one of them by id. */
const END_TEXTS = [
  '<|eot_id|>',
  '<|eom_id|>',
  '<|im_end|>',
  '<|end|>',
  '<|return|>',
  '<|call|>',
  '<end_of_turn>',
  '<end_of_utterance>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<EOT>',
];

type Getter = Exclude<keyof GgufLike, 'has'>;

/** The value of a key; undefined when it is absent. */
function read<G extends Getter>(meta: GgufLike, getter: G, key: string): ReturnType<GgufLike[G]> | undefined {
  return meta.has(key) ? (meta[getter](key) as ReturnType<GgufLike[G]>) : undefined;
}

function readTexts(meta: GgufLike, key: string): TextList | undefined {
  return meta.has(key) ? packedTexts(meta.packedStrings(key)) : undefined;
}

/** Builds a tokenizer.json from the metadata of a GGUF file. */
export function sourceFromGguf(meta: GgufLike): TokenizerSource {
  const { json, ...rest } = compose(meta);
  let first: string | null = json;
  return {
    ...rest,
    get json() {
      const text = first ?? compose(meta).json;
      first = null;
      return text;
    },
  };
}

function compose(meta: GgufLike): TokenizerSource {
  const model = read(meta, 'string', 'tokenizer.ggml.model');
  if (model !== 'gpt2' && model !== 'llama') {
    throw new EyrieError(
      'EYRIE_TOKENIZER',
      `tokenizer.ggml.model: expected "gpt2" or "llama", got ${model === undefined ? 'nothing' : `"${model}"`}. ` +
        'Give the tokenizer.json of the model beside the GGUF file.',
    );
  }
  const vocabulary = readVocabulary(meta);
  return model === 'gpt2' ? byteLevelSource(meta, vocabulary) : sentencePieceSource(meta, vocabulary);
}

interface Vocabulary {
  length: number;
  /** The token's text; padding rows, empty or repeated ones, have names of their own: they keep their ids and match no text. */
  text(id: number): string;
  quote(id: number, out: JsonText): void;
  types: ArrayLike<number>;
}

function readVocabulary(meta: GgufLike): Vocabulary {
  const rows = readTexts(meta, 'tokenizer.ggml.tokens');
  if (!rows || rows.length === 0) throw missing('tokenizer.ggml.tokens');
  const { length } = rows;
  const types = read(meta, 'numbers', 'tokenizer.ggml.token_type') ?? new Uint8Array(length).fill(1);
  if (types.length !== length) {
    throw new EyrieError(
      'EYRIE_TOKENIZER',
      `tokenizer.ggml.token_type: expected ${length} entries, one a token, got ${types.length}`,
    );
  }
  const padding = rows.unusable();
  const text = (id: number): string => (padding.has(id) ? `[EMPTY_${id}]` : rows.text(id));
  const quote = (id: number, out: JsonText): void => {
    if (padding.has(id)) out.quoted(text(id));
    else rows.quote(id, out);
  };
  return { length, text, quote, types };
}

function byteLevelSource(meta: GgufLike, vocabulary: Vocabulary): TokenizerSource {
  const name = read(meta, 'string', 'tokenizer.ggml.pre') ?? 'default';
  const pre = PRE_TOKENIZERS.get(name);
  if (!pre) {
    throw new EyrieError(
      'EYRIE_TOKENIZER',
      `tokenizer.ggml.pre: expected one of ${[...PRE_TOKENIZERS.keys()].join(', ')}, got "${name}". ` +
        'Give the tokenizer.json of the model beside the GGUF file.',
    );
  }
  const merges = readTexts(meta, 'tokenizer.ggml.merges');
  if (!merges) throw missing('tokenizer.ggml.merges');
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const sections = {
    normalizer: pre.nfc ? { type: 'NFC' } : null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: pre.steps },
    decoder: byteLevel,
  };
  const options = { ignoreMerges: pre.ignoreMerges ?? false };
  const model = (out: JsonText) => writeBpeModel(out, vocabulary, merges, options);
  return finish(meta, vocabulary, sections, model, null, null, pre.addBos ?? false);
}

function sentencePieceSource(meta: GgufLike, vocabulary: Vocabulary): TokenizerSource {
  const { types } = vocabulary;
  const tokens = Array.from({ length: vocabulary.length }, (_, id) => vocabulary.text(id));
  const scores = read(meta, 'numbers', 'tokenizer.ggml.scores');
  if (!scores || scores.length !== tokens.length) throw missing('tokenizer.ggml.scores');
  const merges = mergesFromScores(tokens, scores, (id) => types[id] !== CONTROL && types[id] !== BYTE);
  const unknown = read(meta, 'number', 'tokenizer.ggml.unknown_token_id') ?? 0;
  const options = { unknown: tokens[unknown], byteFallback: tokens.includes('<0x00>') };
  const model = (out: JsonText) => writeBpeModel(out, vocabulary, merges, options);
  const prefix = read(meta, 'boolean', 'tokenizer.ggml.add_space_prefix') ?? true;
  const toSpace = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
  const sections = {
    normalizer: {
      type: 'Sequence',
      normalizers: [
        ...(prefix ? [{ type: 'Prepend', prepend: '▁' }] : []),
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        toSpace,
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
  };
  return finish(meta, vocabulary, sections, model, 1, 2, true);
}

function finish(
  meta: GgufLike,
  vocabulary: Vocabulary,
  sections: object,
  model: (out: JsonText) => void,
  defaultBos: number | null,
  defaultEos: number | null,
  defaultAddBos: boolean,
): TokenizerSource {
  const id = (name: string): number | null => {
    const value = read(meta, 'number', `tokenizer.ggml.${name}_token_id`);
    return value !== undefined && value >= 0 && value < vocabulary.length ? value : null;
  };
  const bosId = id('bos') ?? defaultBos;
  const eosIds = endIds(vocabulary, [id('eos') ?? defaultEos, id('eot'), id('eom')]);
  const addBos = bosId !== null && (read(meta, 'boolean', 'tokenizer.ggml.add_bos_token') ?? defaultAddBos);

  const head = { version: '1.0', truncation: null, padding: null, added_tokens: addedTokens(vocabulary) };
  const body = JSON.stringify({ ...head, ...sections, post_processor: null }).slice(0, -1);

  const templateVars: Record<string, string> = {};
  const named = { bos: bosId, eos: eosIds[0] ?? null, unk: id('unknown'), pad: id('padding') };
  for (const [name, value] of Object.entries(named)) {
    if (value !== null) templateVars[`${name}_token`] = vocabulary.text(value);
  }
  const json = new JsonText().raw(`${body},"model":`);
  model(json);
  return {
    json: json.raw('}').toString(),
    vocabSize: vocabulary.length,
    eosIds,
    bosId,
    addBos,
    chatTemplate: read(meta, 'string', 'tokenizer.chat_template') ?? null,
    templateVars,
  };
}

function addedTokens({ length, text, types }: Vocabulary): AddedToken[] {
  const added: AddedToken[] = [];
  for (let id = 0; id < length; id++) {
    const type = types[id];
    if (type !== UNKNOWN && type !== CONTROL && type !== USER_DEFINED) continue;
    added.push({
      id,
      content: text(id),
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: type !== USER_DEFINED,
    });
  }
  return added;
}

function endIds({ length, text, types }: Vocabulary, named: (number | null)[]): number[] {
  const ids = new Set(named.filter((id): id is number => id !== null));
  const control = new Map<string, number>();
  for (let id = 0; id < length; id++) if (types[id] === CONTROL) control.set(text(id), id);
  for (const end of END_TEXTS) {
    // Where <|return|> exists (harmony), <|end|> only ends one message of several.
    if (end === '<|end|>' && control.has('<|return|>')) continue;
    const id = control.get(end);
    if (id !== undefined) ids.add(id);
  }
  return [...ids];
}

function missing(key: string): EyrieError {
  return new EyrieError(
    'EYRIE_TOKENIZER',
    `${key}: expected an array with one entry a token, found none of that length. The GGUF file carries no ` +
      'complete tokenizer; give the tokenizer.json of the model beside it.',
  );
}
