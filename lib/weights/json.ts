/**
 * A JSON reader of our own, because `JSON.parse` keeps the last of duplicate keys silently, gives no line and column
 * on every Node version, and makes objects on which a key like "__proto__" needs care. Objects have no prototype.
 */
export interface JsonOptions {
  /** `refuse` where a duplicate is an attack or a broken writer; `last` is what JSON.parse and Python do. */
  duplicateKeys: 'refuse' | 'last';
  /** Only numbers that are plain non-negative integers below 2^53, as sizes and offsets are. */
  sizesOnly?: boolean;
}

export type JsonObject = Record<string, unknown>;

/** What is wrong, and where: lines and columns count from 1. */
export class JsonProblem extends Error {
  readonly where: string;

  constructor(message: string, text: string, position: number) {
    super(message);
    const before = text.slice(0, position);
    const line = before.split('\n').length;
    this.where = `line ${line}, column ${position - before.lastIndexOf('\n')}`;
  }
}

/** Deep enough for every real file, shallow enough for the stack. */
const MAX_DEPTH = 128;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const SIZE = /^(?:0|[1-9]\d*)$/;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

/** Parses `text` or throws a {@link JsonProblem}. */
export function parseJson(text: string, options: JsonOptions): unknown {
  return new Parser(text, options).document();
}

class Parser {
  readonly #text: string;
  readonly #options: JsonOptions;
  #at = 0;
  #depth = 0;

  constructor(text: string, options: JsonOptions) {
    this.#text = text;
    this.#options = options;
  }

  document(): unknown {
    if (this.#text.charCodeAt(0) === 0xfeff) this.#fail('a byte order mark, which JSON does not have');
    const value = this.#value();
    if (this.#peek() !== '') this.#fail(`${this.#seen()} after the end`);
    return value;
  }

  #value(): unknown {
    const next = this.#peek();
    if (next === '"') return this.#string();
    if (next === '{') return this.#nested(() => this.#object());
    if (next === '[') return this.#nested(() => this.#array());
    if (next === '-' || (next >= '0' && next <= '9')) return this.#number();
    for (const [word, value] of [
      ['true', true] as const,
      ['false', false] as const,
      ['null', null] as const,
    ]) {
      if (this.#text.startsWith(word, this.#at)) {
        this.#at += word.length;
        return value;
      }
    }
    return this.#fail(`${this.#seen()} where a value should be`);
  }

  #nested<T>(read: () => T): T {
    if (++this.#depth > MAX_DEPTH) this.#fail(`nesting deeper than ${MAX_DEPTH}`);
    this.#at++;
    const value = read();
    this.#depth--;
    return value;
  }

  #object(): JsonObject {
    const object: JsonObject = Object.create(null);
    if (this.#take('}')) return object;
    do {
      if (this.#peek() !== '"') this.#fail(`${this.#seen()} where a key in quotes should be`);
      const start = this.#at;
      const key = this.#string();
      if (key in object && this.#options.duplicateKeys === 'refuse') {
        this.#fail(`duplicate key ${JSON.stringify(key.slice(0, 96))}`, start);
      }
      if (!this.#take(':')) this.#fail(`${this.#seen()} where ":" should be`);
      object[key] = this.#value();
    } while (this.#take(','));
    if (!this.#take('}')) this.#fail(`${this.#seen()} where "," or "}" should be`);
    return object;
  }

  #array(): unknown[] {
    const array: unknown[] = [];
    if (this.#take(']')) return array;
    do array.push(this.#value());
    while (this.#take(','));
    if (!this.#take(']')) this.#fail(`${this.#seen()} where "," or "]" should be`);
    return array;
  }

  #number(): number {
    NUMBER.lastIndex = this.#at;
    const word = NUMBER.exec(this.#text)?.[0];
    if (word === undefined) this.#fail('a "-" without digits');
    const value = Number(word);
    if (this.#options.sizesOnly && !(SIZE.test(word) && Number.isSafeInteger(value))) {
      this.#fail(`the number ${word.slice(0, 40)}, which is not a whole number from 0 to 2^53 - 1`);
    }
    if (!Number.isFinite(value)) this.#fail(`the number ${word.slice(0, 40)}, which is too large`);
    this.#at += word.length;
    return value;
  }

  #string(): string {
    const text = this.#text;
    const opening = this.#at;
    let result = '';
    let start = opening + 1;
    for (let at = start; ; at++) {
      const code = text.charCodeAt(at);
      if (code === 0x22) {
        result += text.slice(start, at);
        this.#at = at + 1;
        break;
      }
      if (code === 0x5c) {
        result += text.slice(start, at);
        this.#at = at + 1;
        result += this.#escape();
        start = this.#at;
        at = start - 1;
      } else if (at >= text.length) this.#fail('a string without its closing quote', opening);
      else if (code < 0x20) this.#fail('a control character in a string', at);
    }
    // Half of a surrogate pair is no character, and could not be written back as UTF-8.
    if (/\p{Surrogate}/u.test(result)) this.#fail('half of a surrogate pair in a string', opening);
    return result;
  }

  /** The character that an escape stands for; `#at` is behind the backslash. */
  #escape(): string {
    const letter = this.#text.charAt(this.#at++);
    if (letter === 'u') {
      const digits = this.#text.slice(this.#at, this.#at + 4);
      if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.#fail('a "\\u" without four hexadecimal digits');
      this.#at += 4;
      return String.fromCharCode(Number.parseInt(digits, 16));
    }
    return ESCAPES[letter] ?? this.#fail('an unknown escape in a string', this.#at - 1);
  }

  /** The next character that is not white space, '' at the end. */
  #peek(): string {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09)
        return this.#text.charAt(this.#at);
      this.#at++;
    }
  }

  #take(character: string): boolean {
    if (this.#peek() !== character) return false;
    this.#at++;
    return true;
  }

  #seen(): string {
    const next = this.#peek();
    return next === '' ? 'the end' : JSON.stringify(next);
  }

  #fail(message: string, position = this.#at): never {
    throw new JsonProblem(message, this.#text, position);
  }
}
