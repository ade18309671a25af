import { readFileSync } from 'node:fs';
import { Tokenizer as NativeTokenizer } from 'tokenizers';
import type { TestContext } from 'vitest';
import { type GgufLike, sourceFromFolder, sourceFromGguf, Tokenizer } from '../../lib/tokenizer/index.ts';
import type { TokenizerSource } from '../../lib/tokenizer/source.ts';
import { openWeights } from '../../lib/weights/index.ts';
import { sharedPath } from '../helpers/shared.ts';

/** A path in the shared test material; without it the test is skipped and says so. */
export function shared(context: TestContext, relative: string): string {
  const path = sharedPath(relative);
  if (path === null) context.skip(`no ${relative} in the shared test material (EYRIE_SHARED)`);
  return path!;
}

export interface Loaded {
  source: TokenizerSource;
  tokenizer: Tokenizer;
  /** The library alone, which our own decoding is compared with. */
  native: NativeTokenizer;
}

export async function load(source: TokenizerSource): Promise<Loaded> {
  const tokenizer = await Tokenizer.create(source);
  return { source, tokenizer, native: NativeTokenizer.fromString(source.json) };
}

export async function loadGguf(path: string): Promise<Loaded> {
  const { metadata } = await openWeights(path);
  return load(sourceFromGguf(metadata!));
}

export async function loadFolder(path: string): Promise<Loaded> {
  return load(await sourceFromFolder(path));
}

/** GGUF metadata from plain values; strings in arrays become bytes. */
export function fakeGguf(values: Record<string, unknown>): GgufLike {
  const value = (key: string) => values[key] as never;
  return {
    has: (key) => key in values,
    string: value,
    number: value,
    boolean: value,
    numbers: value,
    packedStrings: (key) => {
      const rows = (values[key] as string[]).map((text) => new TextEncoder().encode(text));
      const ends = new Uint32Array(rows.length);
      const starts = Uint32Array.from(rows, (row, i) => {
        const start = i === 0 ? 0 : ends[i - 1]!;
        ends[i] = start + row.length;
        return start;
      });
      return { bytes: Buffer.concat(rows), starts, ends };
    },
  };
}

/** A byte-level vocabulary of the 256 bytes, a few words and control tokens. */
export function tinyByteLevel(more: Record<string, unknown> = {}): Record<string, unknown> {
  const bytes = Array.from({ length: 256 }, (_, byte) => byteChar(byte));
  const words = ['Ġa', 'he', 'hel', 'hell', 'hello', '__', '__p', '__proto__', 'constructor'];
  const control = ['<s>', '</s>', '<|im_start|>', '<|im_end|>', '<think>', '  '];
  const tokens = [...bytes, ...words, ...control];
  const types = tokens.map((token) => (!control.includes(token) ? 1 : /think|^ /.test(token) ? 4 : 3));
  return {
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'gpt-2',
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.token_type': types,
    'tokenizer.ggml.merges': ['Ġ a', 'h e', 'he l', 'hel l', 'hell o', '_ _'],
    'tokenizer.ggml.bos_token_id': tokens.indexOf('<s>'),
    'tokenizer.ggml.eos_token_id': tokens.indexOf('</s>'),
    ...more,
  };
}

function byteChar(byte: number): string {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let hidden = 0;
  for (let b = 0; b < byte; b++) if (!printable(b)) hidden++;
  return String.fromCharCode(printable(byte) ? byte : 256 + hidden);
}

/** Text that decoders and splitters get wrong. */
export const TORTURE = [
  '',
  ' ',
  '   leading and trailing   ',
  '\n\n\t \r\n  x\n',
  'Hello, world! 123 4567 1.5e-10',
  "I'll DON'T we'VE she's 'ſ",
  'naïve café — “quotes” … ‹x›',
  'e\u0301 a\u030a\u0323 Z̸̡͓̲̟̱͉a̵l̷g̴o',
  '日本語のテキスト、中文文本。한국어 텍스트',
  'עברית العربية हिन्दी ไทย',
  '👩‍👩‍👧‍👦 🏳️‍🌈 🇨🇭 👍🏽 🦀🎉',
  '𝐀𝔅ℂ 𠜎𠜱 𐍈 \u{10ffff} \u{e000}',
  '\ufefftext with \ufeff marks \u200b\u200d\u2028\u2029',
  '\u0000\u0001\u007f\u0085 controls',
  'a\u00a0b\u3000c\u2009d',
  'constructor __proto__ toString hasOwnProperty',
  'if (x[i] != "\\n") { return -1; } // ok',
  '▁underscores▁ and <0x41> and Ġ Ċ',
  `${'a'.repeat(300)}${' '.repeat(70)}${'='.repeat(40)}`,
];

/** Pseudo-random numbers below 1, the same in every run. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

export function readText(path: string): string {
  return readFileSync(path, 'utf8');
}
