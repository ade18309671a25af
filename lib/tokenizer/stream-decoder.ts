/** What a token adds to a text. */
export interface Piece {
  bytes: Uint8Array;
  /** The same as text; null when the bytes are no whole characters. */
  text: string | null;
}

/** What a {@link StreamDecoder} needs to know about a vocabulary. */
export interface PieceTable {
  /** A token in the middle of a text; undefined for an id that no token has. */
  piece(id: number): Piece | undefined;
  /** A token at the start of a text. */
  first(id: number): Piece | undefined;
  isSpecial(id: number): boolean;
  readonly strip: { text: string; count: number };
}

const EMPTY = new Uint8Array(0);

/**
 * Turns ids into text as they come, whole characters only. The parts joined are what the `tokenizers` library decodes
 * from the whole list, with one exception: where byte tokens (`<0xNN>`) form no valid UTF-8, the library puts U+FFFD
 * for every byte of the run, valid neighbours included. That cannot be known while the run goes on, so here the valid
 * characters stay and each broken part becomes one U+FFFD.
 */
export class StreamDecoder {
  readonly #table: PieceTable;
  readonly #skipSpecial: boolean;
  // A byte order mark is a token like any other.
  readonly #utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
  #started = false;
  #toStrip: number;
  /** The start of a character whose other bytes have not come yet. */
  #held = EMPTY;

  constructor(table: PieceTable, skipSpecial: boolean) {
    this.#table = table;
    this.#skipSpecial = skipSpecial;
    this.#toStrip = table.strip.count;
  }

  /** The text that `id` completes; often a token's own, empty while a character is incomplete. */
  push(id: number): string {
    if (this.#skipSpecial && this.#table.isSpecial(id)) return '';
    const piece = this.#started ? this.#table.piece(id) : this.#table.first(id);
    if (piece === undefined) return '';
    this.#started = true;
    if (piece.text !== null && this.#held.length === 0) return this.#stripped(piece.text);
    const bytes = concat(this.#held, piece.bytes);
    const whole = wholeCharacters(bytes);
    this.#held = bytes.slice(whole);
    return this.#stripped(this.#utf8.decode(bytes.subarray(0, whole)));
  }

  /** Ends the text: an incomplete character becomes U+FFFD. The decoder is then ready for another text. */
  finish(): string {
    const rest = this.#stripped(this.#utf8.decode(this.#held));
    this.#held = EMPTY;
    this.#started = false;
    this.#toStrip = this.#table.strip.count;
    return rest;
  }

  #stripped(text: string): string {
    let rest = text;
    while (this.#toStrip > 0 && rest !== '') {
      if (!rest.startsWith(this.#table.strip.text)) this.#toStrip = 0;
      else {
        rest = rest.slice(this.#table.strip.text.length);
        this.#toStrip--;
      }
    }
    return rest;
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  if (a.length === 0) return b;
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** How many bytes come before a character that starts near the end and lacks bytes. */
function wholeCharacters(bytes: Uint8Array): number {
  const end = bytes.length;
  for (let back = 1; back <= 3 && back <= end; back++) {
    const byte = bytes[end - back]!;
    if (byte >= 0x80 && byte < 0xc0) continue;
    const needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needs > back ? end - back : end;
  }
  return end;
}
