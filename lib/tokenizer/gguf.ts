import { EyrieError } from '../errors.ts';
import { bpeModelText, mergesFromScores } from './gguf-model.ts';
import { PRE_TOKENIZERS } from './gguf-pre.ts';
import type { AddedToken, TokenizerSource } from './source.ts';

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
  /** An array of strings, exactly (a BOM is a token of Llama 2); throws where one is not UTF-8. */
  strings(key: string): string[];
  /** An array of strings, each as its bytes. */
  bytesArray(key: string): Uint8Array[];
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

/** An array of strings. A view of bytes for each of 100,000 costs 20 MB, so that is the way only where one is not UTF-8. */
function readTexts(meta: GgufLike, key: string): string[] | undefined {
  if (!meta.has(key)) return undefined;
  try {
    return meta.strings(key);
  } catch {
    return texts(meta.bytesArray(key));
  }
}

/** Builds a tokenizer.json from the metadata of a GGUF file. */
export function sourceFromGguf(meta: GgufLike): TokenizerSource {
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
  tokens: string[];
  types: ArrayLike<number>;
}

function readVocabulary(meta: GgufLike): Vocabulary {
  const rows = readTexts(meta, 'tokenizer.ggml.tokens');
  if (!rows || rows.length === 0) throw missing('tokenizer.ggml.tokens');
  const seen = new Set<string>();
  // Padding rows may be empty or repeated; under names of their own they keep their ids and match no text.
  const tokens = rows.map((text, id) => {
    let token = text;
    if (token === '' || seen.has(token)) token = `[EMPTY_${id}]`;
    seen.add(token);
    return token;
  });
  const types = read(meta, 'numbers', 'tokenizer.ggml.token_type') ?? new Uint8Array(tokens.length).fill(1);
  if (types.length !== tokens.length) {
    throw new EyrieError(
      'EYRIE_TOKENIZER',
      `tokenizer.ggml.token_type: expected ${tokens.length} entries, one a token, got ${types.length}`,
    );
  }
  return { tokens, types };
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
  const model = bpeModelText(vocabulary.tokens, merges, {
    ignoreMerges: pre.ignoreMerges ?? false,
  });
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const sections = {
    normalizer: pre.nfc ? { type: 'NFC' } : null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: pre.steps },
    decoder: byteLevel,
  };
  return finish(meta, vocabulary, sections, model, null, null, pre.addBos ?? false);
}

function sentencePieceSource(meta: GgufLike, vocabulary: Vocabulary): TokenizerSource {
  const { tokens, types } = vocabulary;
  const scores = read(meta, 'numbers', 'tokenizer.ggml.scores');
  if (!scores || scores.length !== tokens.length) throw missing('tokenizer.ggml.scores');
  const merges = mergesFromScores(tokens, scores, (id) => types[id] !== CONTROL && types[id] !== BYTE);
  const unknown = read(meta, 'number', 'tokenizer.ggml.unknown_token_id') ?? 0;
  const model = bpeModelText(tokens, merges, {
    unknown: tokens[unknown],
    byteFallback: tokens.includes('<0x00>'),
  });
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
  model: string,
  defaultBos: number | null,
  defaultEos: number | null,
  defaultAddBos: boolean,
): TokenizerSource {
  const { tokens } = vocabulary;
  const id = (name: string): number | null => {
    const value = read(meta, 'number', `tokenizer.ggml.${name}_token_id`);
    return value !== undefined && value >= 0 && value < tokens.length ? value : null;
  };
  const bosId = id('bos') ?? defaultBos;
  const eosIds = endIds(vocabulary, [id('eos') ?? defaultEos, id('eot'), id('eom')]);
  const addBos = bosId !== null && (read(meta, 'boolean', 'tokenizer.ggml.add_bos_token') ?? defaultAddBos);

  const head = { version: '1.0', truncation: null, padding: null, added_tokens: addedTokens(vocabulary) };
  const body = JSON.stringify({ ...head, ...sections, post_processor: null }).slice(0, -1);

  const templateVars: Record<string, string> = {};
  const named = { bos: bosId, eos: eosIds[0] ?? null, unk: id('unknown'), pad: id('padding') };
  for (const [name, value] of Object.entries(named)) {
    if (value !== null && tokens[value] !== undefined) templateVars[`${name}_token`] = tokens[value];
  }
  return {
    json: `${body},"model":${model}}`,
    vocabSize: tokens.length,
    eosIds,
    bosId,
    addBos,
    chatTemplate: read(meta, 'string', 'tokenizer.chat_template') ?? null,
    templateVars,
  };
}

function addedTokens({ tokens, types }: Vocabulary): AddedToken[] {
  const added: AddedToken[] = [];
  for (let id = 0; id < tokens.length; id++) {
    const type = types[id];
    if (type !== UNKNOWN && type !== CONTROL && type !== USER_DEFINED) continue;
    added.push({
      id,
      content: tokens[id]!,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: type !== USER_DEFINED,
    });
  }
  return added;
}

function endIds({ tokens, types }: Vocabulary, named: (number | null)[]): number[] {
  const ids = new Set(named.filter((id): id is number => id !== null));
  const control = new Map<string, number>();
  for (let id = 0; id < tokens.length; id++) if (types[id] === CONTROL) control.set(tokens[id]!, id);
  for (const end of END_TEXTS) {
    // Where <|return|> exists (harmony), <|end|> only ends one message of several.
    if (end === '<|end|>' && control.has('<|return|>')) continue;
    const id = control.get(end);
    if (id !== undefined) ids.add(id);
  }
  return [...ids];
}

/**
 * Text of strings that mostly lie in one buffer, a BOM included. There are a hundred thousand of them, and a decoder or
 * a Buffer for each costs more than the rest of the work.
 */
function texts(rows: readonly Uint8Array[]): string[] {
  let whole: Buffer = Buffer.alloc(0);
  return rows.map((row) => {
    if (row.buffer !== whole.buffer) whole = Buffer.from(row.buffer);
    return whole.toString('utf8', row.byteOffset, row.byteOffset + row.length);
  });
}

function missing(key: string): EyrieError {
  return new EyrieError(
    'EYRIE_TOKENIZER',
    `${key}: expected an array with one entry a token, found none of that length. The GGUF file carries no ` +
      'complete tokenizer; give the tokenizer.json of the model beside it.',
  );
}
