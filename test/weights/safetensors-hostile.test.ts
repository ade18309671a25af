import { describe, expect, it } from 'vitest';
import { openWeights } from '../../lib/weights/index.ts';
import { Bytes, safetensors, temporaryFolder } from './write.ts';

const { write } = temporaryFolder();

const one = (fields: object, data = 4) =>
  safetensors({ a: { dtype: 'F32', shape: [1], data_offsets: [0, 4], ...fields } }, data);
const text = (json: string, data = 4) => safetensors(json, data);
const tensor = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';
const pair = (a: number[], b: number[], data: number) =>
  safetensors(
    {
      a: { dtype: 'U8', shape: [a[1]! - a[0]!], data_offsets: a },
      b: { dtype: 'U8', shape: [b[1]! - b[0]!], data_offsets: b },
    },
    data,
  );

const cases: [string, () => Buffer | string, RegExp][] = [
  ['an empty file', () => '', /truncated.*at least 8 bytes, got 0/],
  ['seven bytes', () => '1234567', /truncated.*got 7/],
  ['a length alone', () => safetensors('', 0, 2n), /header length.*got 2/],
  ['a length of zero', () => safetensors('', 0), /got an empty header/],
  ['a length past the end', () => safetensors('{}', 0, 3n), /header length.*2 bytes that follow, got 3/],
  ['a length of 2^64-1', () => safetensors('{}', 0, 2n ** 64n - 1n), /got 18446744073709551615/],
  ['a length of 2^63', () => safetensors('{}', 0, 2n ** 63n), /got 9223372036854775808/],
  ['a length beyond the limit of the format', () => safetensors('{}', 0, 100_000_001n), /at most 100000000/],
  ['a length too short for the JSON', () => safetensors({ a: {} }, 0, 5n), /valid JSON/],
  [
    'a Git LFS pointer',
    () => 'version https://git-lfs.github.com/spec/v1\noid sha256:00\n',
    /Git LFS pointer/,
  ],
  ['a web page', () => '<!DOCTYPE html><title>404</title>', /web page/],
  [
    'a GGUF file',
    () => Buffer.concat([Buffer.from('GGUF'), Buffer.alloc(64)]),
    /header length.*is a GGUF file/,
  ],
  ['a leading space', () => text(' {}', 0), /starts with "\{"/],
  ['a byte order mark', () => text('\ufeff{}', 0), /starts with "\{"/],
  ['an array', () => text('[]', 0), /starts with "\{"/],
  ['JSON cut short', () => text('{"a":', 0), /line 1, column 6.*the end/],
  ['a trailing comma', () => text('{"a":{},}', 0), /key in quotes/],
  ['text after the header', () => text('{} x', 0), /"x" after the end/],
  ['a NUL after the header', () => text('{}\0', 0), /after the end/],
  [
    'invalid UTF-8',
    () => safetensors(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])),
    /JSON in UTF-8/,
  ],
  ['half of a surrogate pair', () => text(`{"\\ud800":${tensor}}`), /surrogate/],
  ['a control character in a name', () => text(`{"a\n":${tensor}}`), /control character/],
  ['a header nested a hundred thousand deep', () => text(`{"a":${'['.repeat(100_000)}`, 0), /nesting deeper/],
  ['a duplicate tensor', () => text(`{"a":${tensor},"a":${tensor}}`), /duplicate key "a"/],
  [
    'a duplicate tensor behind an escape',
    () => text(`{"a":${tensor},"\\u0061":${tensor}}`),
    /duplicate key "a"/,
  ],
  [
    'a duplicate field',
    () => text('{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
    /duplicate key "dtype"/,
  ],
  [
    'a duplicate __proto__',
    () => text(`{"__proto__":${tensor},"__proto__":${tensor}}`),
    /duplicate key "__proto__"/,
  ],
  [
    'duplicate metadata',
    () => text('{"__metadata__":{},"__metadata__":{}}', 0),
    /duplicate key "__metadata__"/,
  ],
  ['metadata that is no object', () => text('{"__metadata__":[]}', 0), /__metadata__.*an array/],
  [
    'metadata with a number',
    () => text('{"__metadata__":{"n":1}}', 0),
    /__metadata__.*"n": expected a string, got a number/,
  ],
  ['a tensor that is null', () => text('{"a":null}', 0), /tensor "a".*got null/],
  ['no dtype', () => one({ dtype: undefined }), /dtype: expected a string, got nothing/],
  ['an unknown dtype', () => one({ dtype: 'F128' }), /unknown dtype.*"F128"/],
  ['a dtype in lower case', () => one({ dtype: 'f32' }), /unknown dtype.*"f32"/],
  ['a dtype from Object.prototype', () => one({ dtype: 'constructor' }), /unknown dtype/],
  ['a dtype of GGUF', () => one({ dtype: 'Q4_0' }), /unknown dtype/],
  ['no shape', () => one({ shape: undefined }), /shape: expected an array of sizes, got nothing/],
  [
    'a shape of strings',
    () => one({ shape: ['1'] }),
    /shape: expected an array of sizes, got an array with a string in it/,
  ],
  ['a negative size', () => one({ shape: [-1] }), /the number -1/],
  ['a fraction', () => text('{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}'), /the number 1\.0/],
  ['an exponent', () => text('{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}'), /the number 1e0/],
  [
    'a size of 2^53',
    () => text('{"a":{"dtype":"F32","shape":[9007199254740992],"data_offsets":[0,4]}}'),
    /9007199254740992/,
  ],
  [
    'a size of 2^64',
    () => text('{"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}}'),
    /18446744073709551616/,
  ],
  ['a shape whose product overflows', () => one({ shape: [2 ** 40, 2 ** 40] }), /fewer than 2\^53/],
  ['a shape whose bytes overflow', () => one({ shape: [2 ** 52] }), /fewer than 2\^53/],
  [
    'no offsets',
    () => one({ data_offsets: undefined }),
    /data_offsets: expected an array of two offsets, got nothing/,
  ],
  ['one offset', () => one({ data_offsets: [0] }), /two offsets/],
  ['three offsets', () => one({ data_offsets: [0, 4, 4] }), /two offsets, got 3 numbers/],
  ['offsets the wrong way round', () => one({ data_offsets: [4, 0] }), /begin ≤ end/],
  ['offsets past the end', () => one({ shape: [2], data_offsets: [0, 8] }), /end ≤ 4.*\[0, 8\]/],
  [
    'offsets that disagree with the shape',
    () => one({ shape: [2] }),
    /8 bytes for shape \[2\] of F32, got 4/,
  ],
  [
    'offsets that disagree with the dtype',
    () => one({ dtype: 'F16' }),
    /2 bytes for shape \[1\] of F16, got 4/,
  ],
  ['a shape of ten thousand dimensions', () => one({ shape: new Array(10_000).fill(2) }), /… 10000 in all\]/],
  ['half a byte', () => one({ dtype: 'F4', shape: [7] }), /whole bytes.*shape \[7\] of F4/],
  ['data cut by one byte', () => one({}, 3), /end ≤ 3/],
  ['a byte after the data', () => one({}, 5), /bytes after the last tensor/],
  ['data without tensors', () => text('{}', 1), /bytes after the last tensor/],
  ['a hole before the first', () => one({ data_offsets: [4, 8] }, 8), /a hole before it.*offset 0, got 4/],
  ['a hole between', () => pair([0, 4], [5, 8], 8), /tensor "b": a hole before it/],
  ['an overlap', () => pair([0, 4], [3, 8], 8), /tensor "b": overlaps/],
  ['two tensors at one place', () => pair([0, 4], [0, 4], 4), /overlaps/],
  ['an empty tensor inside another', () => pair([0, 4], [2, 2], 4), /overlaps/],
  [
    'a header of nothing but spaces',
    () => new Bytes().u64(4).raw(Buffer.from('    ')).toBuffer(),
    /starts with "\{"/,
  ],
];

describe('hostile safetensors files', () => {
  it.each(cases)('refuses %s', async (_, make, message) => {
    const path = write('hostile.safetensors', make());
    const error = await openWeights(path).catch((e) => e);
    expect(error).toMatchObject({ name: 'EyrieError', code: 'EYRIE_SAFETENSORS' });
    expect(error.message).toMatch(message);
    expect(error.message.startsWith(`${path}: `)).toBe(true);
    expect(error.message).toMatch(/: expected .*, got .*\. [A-Z]/s);
  });

  it('refuses every truncation of a valid file', async () => {
    const content = one({});
    for (let length = 0; length < content.length; length++) {
      const path = write('cut.safetensors', content.subarray(0, length));
      await expect(openWeights(path), `${length} bytes`).rejects.toMatchObject({ code: 'EYRIE_SAFETENSORS' });
    }
  });
});
