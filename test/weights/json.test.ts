import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readJsonFile } from '../../lib/weights/index.ts';
import { parseJson } from '../../lib/weights/json.ts';
import { temporaryFolder } from './write.ts';

const { folder, write } = temporaryFolder();

describe('parseJson', () => {
  const texts = [
    '{"a":[1,-2.5e3,0.1E-2,true,false,null,"x"],"b":{}}',
    ' [ ] ',
    '"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00 é😀"',
    '[[[[]]],{"":{"":""}}]',
    '-0',
    '1E400'.replace('400', '300'),
    '\t\r\n {"k" : [ 1 , 2 ] } ',
  ];
  it.each(texts)('agrees with JSON.parse on %s', (text) => {
    expect(parseJson(text, { duplicateKeys: 'refuse' })).toEqual(JSON.parse(text));
  });

  const faults = [
    '',
    '{',
    '[1,]',
    '{"a"}',
    '{"a":1,}',
    "{'a':1}",
    '{a:1}',
    '01',
    '1.',
    '.5',
    '+1',
    '-',
    '1e',
    'tru',
    'nul',
    'NaN',
    'Infinity',
    '"\\x"',
    '"\\u12g4"',
    '"a',
    '"a\tb"',
    '[1 2]',
    '{"a" 1}',
    '1 1',
    '[',
    '// c\n1',
    '\ufeff{}',
    '\u00a01',
  ];
  it.each(faults)('refuses %j as JSON.parse does', (text) => {
    expect(() => JSON.parse(text)).toThrow();
    expect(() => parseJson(text, { duplicateKeys: 'last' })).toThrow(
      expect.objectContaining({ where: expect.any(String) }),
    );
  });
});

describe('readJsonFile', () => {
  it('reads an object', async () => {
    const path = write('config.json', '{"a": 1, "a": 2, "__proto__": {"b": 3}}');
    const config = await readJsonFile(path);
    expect(config.a).toBe(2);
    expect(Object.keys(config)).toEqual(['a', '__proto__']);
    expect(config.b).toBeUndefined();
    expect(config.toString).toBeUndefined();
  });

  const faults: [string, () => string, RegExp][] = [
    ['a missing file', () => join(folder, 'absent.json'), /no such file/],
    ['a folder', () => folder, /a regular file, got a folder/],
    [
      'malformed JSON',
      () => write('bad.json', '{\n  "a": 1,\n  "b" 2\n}'),
      /line 3, column 7: expected valid JSON, got "2" where ":"/,
    ],
    ['an empty file', () => write('empty.json', ''), /line 1, column 1.*the end where a value/],
    ['an array', () => write('array.json', '[1]'), /expected a JSON object, got an array/],
    ['null', () => write('null.json', 'null'), /expected a JSON object, got null/],
    ['a byte order mark', () => write('bom.json', '\ufeff{}'), /byte order mark/],
    ['invalid UTF-8', () => write('latin.json', Buffer.from([0x7b, 0xe9, 0x7d])), /JSON in UTF-8/],
  ];
  it.each(faults)('refuses %s', async (_, make, message) => {
    const path = make();
    const error = await readJsonFile(path).catch((e) => e);
    expect(error).toMatchObject({ name: 'EyrieError', code: 'EYRIE_CONFIG' });
    expect(error.message).toMatch(message);
    expect(error.message).toContain(path);
  });
});
