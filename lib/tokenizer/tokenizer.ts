import type { Tokenizer as NativeTokenizer } from 'tokenizers';
import { EyrieError } from '../errors.ts';
import { findValue, highestId, pickValue } from './json-scan.ts';
import { type PieceRule, pieceRule } from './pieces.ts';
import { withoutControlTokens } from './plain.ts';
import { type AddedToken, addedTokensOf, parseSection, type TokenizerSource } from './source.ts';
import { type Piece, type PieceTable, StreamDecoder } from './stream-decoder.ts';

export interface EncodeOptions {
  /**
   * Whether text such as `<|im_end|>` becomes the control token of that name. The first call with `false` reads a GGUF's header again,
   * and is EYRIE_FILE where the file is gone or another one. Default: true.
   */
  special?: boolean;
  /** Whether the BOS token is put in front. Default: what the tokenizer's files say. */
  bos?: boolean;
}

export interface DecodeOptions {
  /** Whether special tokens (end of turn, padding, …) are left out of the text. Default: true. */
  skipSpecial?: boolean;
}

/**
 * Text to ids through the `tokenizers` library, ids to text by itself. Encoding runs on the thread pool and never
 * blocks the event loop; decoding is synchronous and costs less than a microsecond a token.
 */
export class Tokenizer {
  readonly eosIds: readonly number[];
  readonly bosId: number | null;
  readonly addBos: boolean;

  readonly #source: TokenizerSource;
  readonly #load: (json: string) => NativeTokenizer;
  readonly #native: NativeTokenizer;
  readonly #added: readonly AddedToken[];
  readonly #decoder: unknown;
  // Everything below is made when it is first asked for: creation is on the way to the first token.
  #plain: NativeTokenizer | null = null;
  #pieces: Pieces | null = null;
  #vocabSize: number;

  private constructor(source: TokenizerSource, load: (json: string) => NativeTokenizer) {
    this.eosIds = [...source.eosIds];
    this.bosId = source.bosId;
    this.addBos = source.addBos;
    this.#source = source;
    this.#vocabSize = source.vocabSize ?? 0;
    this.#load = load;
    const { json } = source;
    this.#native = load(json);
    this.#added = addedTokensOf(json);
    this.#decoder = parseSection(json, 'decoder');
  }

  static async create(source: TokenizerSource): Promise<Tokenizer> {
    const library = await import('tokenizers');
    return new Tokenizer(source, (json) => {
      try {
        const native = library.Tokenizer.fromString(json);
        // A file may ask for a fixed length, which is meant for classifiers.
        native.disableTruncation();
        native.disablePadding();
        return native;
      } catch (cause) {
        const why = (cause as Error).message;
        throw new EyrieError('EYRIE_TOKENIZER', `tokenizer.json is refused: ${why}`, { cause });
      }
    });
  }

  /** Highest id + 1. */
  get vocabSize(): number {
    if (this.#vocabSize === 0) this.#vocabSize = this.#highestId() + 1;
    return this.#vocabSize;
  }

  async encode(text: string, options: EncodeOptions = {}): Promise<number[]> {
    if (typeof text !== 'string') {
      throw new EyrieError('EYRIE_INVALID_ARGUMENT', `text: expected a string, got ${typeof text}`);
    }
    const { special = true, bos = this.addBos } = options;
    const native = special ? this.#native : this.#plainNative();
    const ids = (await native.encode(text, null, { addSpecialTokens: false })).getIds();
    if (!bos) return ids;
    if (this.bosId === null) {
      throw new EyrieError(
        'EYRIE_TOKENIZER',
        'bos: expected false, got true, but this tokenizer has no BOS token',
      );
    }
    return [this.bosId].concat(ids);
  }

  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    const decoder = this.decoder(options);
    let text = '';
    for (const id of ids) text += decoder.push(id);
    return text + decoder.finish();
  }

  /** A decoder for ids that come one by one. */
  decoder(options: DecodeOptions = {}): StreamDecoder {
    return new StreamDecoder(this.#table(), options.skipSpecial ?? true);
  }

  /**
   * The bytes that a token adds to a text in front of which others stand. They may be part of a character. The array
   * is shared: do not write to it.
   */
  tokenBytes(id: number): Uint8Array {
    const piece = this.#table().piece(id);
    if (piece !== undefined) return piece.bytes;
    throw new EyrieError(
      'EYRIE_INVALID_ARGUMENT',
      `id: expected the id of a token, an integer below ${this.vocabSize}, got ${id}, which no token has`,
    );
  }

  isSpecial(id: number): boolean {
    return this.#table().isSpecial(id);
  }

  /** Throws when the tokenizer can produce an id for which the model has no row. */
  checkVocabulary(modelVocab: number): void {
    if (this.vocabSize <= modelVocab) return;
    throw new EyrieError(
      'EYRIE_TOKENIZER',
      `tokenizer: expected ids below the ${modelVocab} rows of the model's vocabulary, got ids up to ` +
        `${this.vocabSize - 1}. The tokenizer belongs to another model, or tokens were added without resizing it.`,
    );
  }

  #plainNative(): NativeTokenizer {
    this.#plain ??= this.#load(withoutControlTokens(this.#source.json));
    return this.#plain;
  }

  #table(): Pieces {
    this.#pieces ??= new Pieces(this.#native, pieceRule(this.#decoder), this.#added);
    return this.#pieces;
  }

  #highestId(): number {
    const { json } = this.#source;
    const model = findValue(json, 'model');
    const vocab = model < 0 ? -1 : findValue(json, 'vocab', model);
    let highest = -1;
    // A list, of Unigram, has its ids by place.
    if (json[vocab] === '[') highest = unigramSize(json) - 1;
    else if (vocab >= 0) highest = highestId(json, vocab);
    for (const { content, id } of this.#added) {
      highest = Math.max(highest, this.#native.tokenToId(content) ?? id);
    }
    return highest;
  }
}

function unigramSize(json: string): number {
  return (JSON.parse(pickValue(pickValue(json, 'model')!, 'vocab')!) as unknown[]).length;
}

/** Bytes of tokens, looked up in the library when first used: a reply has few different ones of a large vocabulary. */
class Pieces implements PieceTable {
  readonly strip: PieceRule['strip'];
  readonly #native: NativeTokenizer;
  readonly #rule: PieceRule;
  readonly #pieces = new Map<number, Piece>();
  readonly #strict = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });
  readonly #special = new Set<number>();

  constructor(native: NativeTokenizer, rule: PieceRule, added: readonly AddedToken[]) {
    this.#native = native;
    this.#rule = rule;
    this.strip = rule.strip;
    for (const token of added) {
      // The library numbers added tokens itself where the file leaves gaps.
      if (token.special) this.#special.add(native.tokenToId(token.content) ?? token.id);
    }
  }

  piece(id: number): Piece | undefined {
    const known = this.#pieces.get(id);
    if (known !== undefined) return known;
    const token = this.#token(id);
    if (token === null) return undefined;
    const piece = this.#piece(this.#rule.piece(token));
    this.#pieces.set(id, piece);
    return piece;
  }

  first(id: number): Piece | undefined {
    const token = this.#token(id);
    return token === null ? undefined : this.#piece(this.#rule.first(token));
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  #piece(bytes: Uint8Array): Piece {
    try {
      return { bytes, text: this.#strict.decode(bytes) };
    } catch {
      return { bytes, text: null };
    }
  }

  #token(id: number): string | null {
    return Number.isInteger(id) && id >= 0 && id < 2 ** 32 ? this.#native.idToToken(id) : null;
  }
}
