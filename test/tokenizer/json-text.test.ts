import { describe, expect, it } from 'vitest';
import { JsonText } from '../../lib/tokenizer/json-text.ts';
import { packedTexts } from '../../lib/tokenizer/text-list.ts';

const TEXTS = [
  '',
  'plain',
  'a "quoted" \\ one',
  '\u0000\u001f\u007f\u0080\u00ff',
  'Ġthe Ċ ▁x',
  '\u07ff\u0800\ud7ff\ue000\uffff\ufeff',
  '😀 and 𐀀',
  '__proto__',
  '\u2028\u2029',
];

describe('JsonText', () => {
  it('writes what JSON.parse reads back, in ASCII', () => {
    const value = { '▁key': [1, -2.5, null, true, '😀\n"'], text: TEXTS };
    const json = new JsonText().value(value).toString();
    expect(JSON.parse(json)).toEqual(value);
    expect(json).toMatch(/^[\x20-\x7f]*$/);
  });

  it.each(TEXTS)('quotes the bytes of %j', (text) => {
    const bytes = Buffer.from(`xx${text}yy`);
    const json = new JsonText().quotedUtf8(bytes, 2, bytes.length - 2).toString();
    expect(JSON.parse(json)).toBe(text);
    expect(json).toMatch(/^[\x20-\x7f]*$/);
  });

  it('puts U+FFFD for what is not UTF-8, as a decoder does', () => {
    let state = 7;
    const random = (n: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state >>> 16) % n;
    };
    for (let round = 0; round < 3000; round++) {
      // Lead and continuation bytes in every combination, ASCII between them.
      const bytes = Buffer.from(
        Array.from(
          { length: random(7) },
          () => [random(128), 128 + random(64), 192 + random(64)][random(3)]!,
        ),
      );
      expect(JSON.parse(new JsonText().quotedUtf8(bytes, 0, bytes.length).toString())).toBe(
        bytes.toString('utf8'),
      );
    }
  });

  it.each([0, 7, 10, 99, 100, 128255, 2 ** 31, 2 ** 52 + 1])('writes the integer %d', (n) => {
    expect(new JsonText().integer(n).toString()).toBe(String(n));
  });

  it('grows', () => {
    const out = new JsonText();
    const piece = 'é'.repeat(1000);
    for (let i = 0; i < 3000; i++) out.raw(i ? ',' : '[').quoted(piece);
    const read = JSON.parse(out.raw(']').toString()) as string[];
    expect(read).toHaveLength(3000);
    expect(read.every((text) => text === piece)).toBe(true);
  });
});

describe('packedTexts', () => {
  it('finds texts that are empty or stand at an earlier place', () => {
    const rows = ['a', '', 'b', 'a', 'ab', '', 'é', 'é'].map((t) => Buffer.from(t));
    rows.push(Buffer.of(0xff), Buffer.of(0xfe), Buffer.of(0xff, 0x41)); // the first two read the same
    const ends = new Uint32Array(rows.length);
    const starts = new Uint32Array(rows.length);
    for (let i = 0, at = 0; i < rows.length; i++) {
      starts[i] = at;
      at += rows[i]!.length;
      ends[i] = at;
    }
    const list = packedTexts({ bytes: Buffer.concat(rows), starts, ends });
    expect([...list.unusable()]).toEqual([1, 3, 5, 7, 9]);
    expect(Array.from({ length: 5 }, (_, i) => list.text(i))).toEqual(['a', '', 'b', 'a', 'ab']);
    expect(list.text(10)).toBe('\ufffdA');
  });
});
