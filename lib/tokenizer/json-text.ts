const QUOTE = 34;
const BACKSLASH = 92;
const HEX = Buffer.from('0123456789abcdef', 'latin1');

/**
 * JSON text as it is written, in ASCII: other characters are escaped. Such text is one byte a character where JavaScript would
 * take two, and it is made from the bytes of a file without a string for each token.
 */
export class JsonText {
  // Room for most vocabularies: pages that are not written to take no memory, while outgrown buffers stay until a collection.
  #bytes = Buffer.allocUnsafeSlow(8 << 20);
  #length = 0;

  /** Appends a value. */
  value(value: unknown): this {
    return this.raw(JSON.stringify(value));
  }

  /** Appends text that is JSON already, or a part of it. */
  raw(json: string): this {
    this.#room(6 * json.length);
    for (let i = 0; i < json.length; i++) this.#unit(json.charCodeAt(i));
    return this;
  }

  /** Appends a string. */
  quoted(text: string): this {
    return this.raw(JSON.stringify(text));
  }

  /** Appends an integer >= 0. */
  integer(n: number): this {
    this.#room(16);
    let scale = 1;
    while (scale * 10 <= n) scale *= 10;
    for (; scale >= 1; scale /= 10) this.#bytes[this.#length++] = 48 + (Math.floor(n / scale) % 10);
    return this;
  }

  /** Appends bytes[start..end), which should be UTF-8 (else U+FFFD comes in), as a string. */
  quotedUtf8(bytes: Buffer, start: number, end: number): this {
    this.#room(6 * (end - start) + 2);
    const begin = this.#length;
    this.#bytes[this.#length++] = QUOTE;
    for (let i = start; i < end; i++) {
      const byte = bytes[i]!;
      if (byte >= 32 && byte < 127 && byte !== QUOTE && byte !== BACKSLASH) {
        this.#bytes[this.#length++] = byte;
        continue;
      }
      // Two and three bytes by hand: byte-level vocabularies are full of them.
      const b1 = i + 1 < end ? bytes[i + 1]! ^ 0x80 : 64;
      const b2 = i + 2 < end ? bytes[i + 2]! ^ 0x80 : 64;
      const two = ((byte & 0x1f) << 6) | b1;
      const three = ((byte & 0x0f) << 12) | (b1 << 6) | b2;
      if (byte >= 0xc2 && byte < 0xe0 && b1 < 64) {
        this.#unit(two);
        i += 1;
      } else if (byte >> 4 === 14 && b1 < 64 && b2 < 64 && three >= 0x800 && three >> 11 !== 27) {
        this.#unit(three);
        i += 2;
      } else {
        this.#length = begin;
        return this.quoted(bytes.toString('utf8', start, end));
      }
    }
    this.#bytes[this.#length++] = QUOTE;
    return this;
  }

  toString(): string {
    return this.#bytes.toString('latin1', 0, this.#length);
  }

  /** One UTF-16 unit; outside ASCII, JSON has it in strings only, where it may be escaped. */
  #unit(code: number): void {
    const out = this.#bytes;
    if (code < 128) {
      out[this.#length++] = code;
      return;
    }
    out[this.#length++] = BACKSLASH;
    out[this.#length++] = 117; // u
    for (let shift = 12; shift >= 0; shift -= 4) out[this.#length++] = HEX[(code >> shift) & 15]!;
  }

  #room(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(2 * this.#bytes.length, this.#length + more));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}
