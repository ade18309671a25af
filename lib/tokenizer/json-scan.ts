import { EyrieError } from '../errors.ts';

/**
 * A tokenizer.json has megabytes, nearly all of them vocabulary, of which JavaScript needs a few small sections and
 * the highest id. Cutting these out of the text is several times cheaper than `JSON.parse` of the whole file. The
 * native tokenizer has parsed (or will parse) the same text, so this scanner only has to find the borders.
 */

const QUOTE = 34;
const COMMA = 44;
const COLON = 58;
const BACKSLASH = 92;
const CLOSE_BRACE = 125;

/** Where the value of `key` starts in the JSON object that starts at `from`; -1 when there is no such key. */
export function findValue(text: string, key: string, from = 0): number {
  let at = firstKey(text, from);
  while (at >= 0) {
    const keyEnd = endOfString(text, at);
    const value = valueAfter(text, keyEnd);
    if (keyEnd - at === key.length + 2 && text.startsWith(key, at + 1)) return value;
    at = nextKey(text, endOfValue(text, value));
  }
  return -1;
}

/** Text of the value of `key` in the JSON object that starts `text`; undefined when there is no such key. */
export function pickValue(text: string, key: string): string | undefined {
  const at = findValue(text, key);
  return at < 0 ? undefined : text.slice(at, endOfValue(text, at));
}

/** Highest of the values of the JSON object `{"token": id, …}` that starts at `from`, or -1 when it is empty. */
export function highestId(text: string, from = 0): number {
  let highest = -1;
  let at = firstKey(text, from);
  while (at >= 0) {
    const value = valueAfter(text, endOfString(text, at));
    let end = value;
    let id = 0;
    for (; ; end++) {
      const digit = text.charCodeAt(end) - 48;
      if (!(digit >= 0 && digit <= 9)) break;
      id = id * 10 + digit;
    }
    if (end === value) throw malformed(value);
    if (id > highest) highest = id;
    at = nextKey(text, end);
  }
  return highest;
}

/** The opening quote of the first key of an object, or -1. */
function firstKey(text: string, from: number): number {
  let at = skipSpace(text, from);
  if (text[at] !== '{') throw malformed(at);
  at = skipSpace(text, at + 1);
  if (text.charCodeAt(at) === CLOSE_BRACE) return -1;
  if (text.charCodeAt(at) !== QUOTE) throw malformed(at);
  return at;
}

/** The opening quote of the key after a value that ends at `end`, or -1. */
function nextKey(text: string, end: number): number {
  let at = skipSpace(text, end);
  if (text.charCodeAt(at) === CLOSE_BRACE) return -1;
  if (text.charCodeAt(at) !== COMMA) throw malformed(at);
  at = skipSpace(text, at + 1);
  if (text.charCodeAt(at) !== QUOTE) throw malformed(at);
  return at;
}

function valueAfter(text: string, keyEnd: number): number {
  const at = skipSpace(text, keyEnd);
  if (text.charCodeAt(at) !== COLON) throw malformed(at);
  return skipSpace(text, at + 1);
}

function skipSpace(text: string, from: number): number {
  let at = from;
  for (;;) {
    const code = text.charCodeAt(at);
    if (code !== 32 && code !== 10 && code !== 13 && code !== 9) return at;
    at++;
  }
}

/** `at` is the opening quote; the result is the place after the closing one. */
function endOfString(text: string, at: number): number {
  for (let i = at + 1; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === BACKSLASH) i++;
    else if (code === QUOTE) return i + 1;
  }
  throw malformed(at);
}

function endOfValue(text: string, start: number): number {
  const first = text[start];
  if (first === '"') return endOfString(text, start);
  let at = start;
  if (first !== '{' && first !== '[') {
    while (at < text.length && !',}] \n\r\t'.includes(text[at]!)) at++;
    if (at === start) throw malformed(at);
    return at;
  }
  for (let depth = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) at = endOfString(text, at) - 1;
    else if (code === 123 || code === 91) depth++;
    else if ((code === 125 || code === 93) && --depth === 0) return at + 1;
  }
  throw malformed(start);
}

function malformed(at: number): EyrieError {
  return new EyrieError('EYRIE_TOKENIZER', `tokenizer.json is malformed: no valid JSON at character ${at}`);
}
