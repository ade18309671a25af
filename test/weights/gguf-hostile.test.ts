import { describe, expect, it } from 'vitest';
import { openWeights } from '../../lib/weights/index.ts';
import { type ArrayValue, Bytes, type GgufSpec, gguf, temporaryFolder, V } from './write.ts';

const { write } = temporaryFolder();

const valid: GgufSpec = {
  pairs: [
    ['general.architecture', V.string, 'llama'],
    ['tokens', V.array, { of: V.string, items: ['a', 'b'] }],
  ],
  tensors: [
    { name: 'a', dims: [8, 2] },
    { name: 'b', dims: [32, 1], type: 2, bytes: 18 },
  ],
};
const with_ = (change: GgufSpec) => gguf({ ...valid, ...change });
const nested = (depth: number): ArrayValue =>
  depth === 1 ? { of: V.u8, items: [1] } : { of: V.array, items: [nested(depth - 1)] };
const arrayOf = (of: number, count: bigint, items: ArrayValue['items'] = []) =>
  gguf({ pairs: [['k', V.array, { of, items, count }]] });
const swapped = () => {
  const bytes = gguf({});
  bytes.writeUInt32BE(3, 4);
  return bytes;
};

const cases: [string, () => Buffer | string, RegExp][] = [
  ['an empty file', () => '', /not a GGUF file.*an empty file/],
  ['three bytes', () => 'GGU', /not a GGUF file/],
  ['the magic alone', () => 'GGUF', /truncated.*end of the file at byte 4/],
  ['a header cut in the counts', () => gguf({}).subarray(0, 10), /truncated/],
  ['a wrong magic', () => gguf({ magic: 'GGML' }), /the bytes "GGUF" first/],
  ['a GGML file from before GGUF', () => gguf({ magic: 'tjgg' }), /before GGUF.*Convert the model again/],
  [
    'a Git LFS pointer',
    () => 'version https://git-lfs.github.com/spec/v1\noid sha256:00\n',
    /Git LFS pointer/,
  ],
  ['a web page', () => '<!DOCTYPE html><title>404</title>', /web page/],
  ['a safetensors file', () => new Bytes().u64(2).raw(Buffer.from('{}')).toBuffer(), /not a GGUF file/],
  ['version 0', () => gguf({ version: 0 }), /expected 2 or 3, got 0/],
  ['version 1', () => gguf({ version: 1 }), /expected 2 or 3, got 1.*Convert/],
  ['version 4', () => gguf({ version: 4 }), /expected 2 or 3, got 4.*newer eyrie/],
  ['a big-endian file', swapped, /byte order.*big-endian/],
  [
    '2^64-1 tensors',
    () => with_({ tensorCount: 2n ** 64n - 1n }),
    /less than 2\^53, got 18446744073709551615/,
  ],
  ['2^63 metadata keys', () => with_({ pairCount: 2n ** 63n }), /less than 2\^53, got 9223372036854775808/],
  ['more tensors than fit', () => with_({ tensorCount: 2n ** 40n }), /count of tensors.*got 1099511627776/],
  ['more metadata keys than fit', () => with_({ pairCount: 1000n }), /count of metadata keys.*got 1000/],
  ['one tensor too many', () => with_({ tensorCount: 3n }), /tensor 3: length of name/],
  ['one metadata key too few', () => with_({ pairCount: 1n }), /tensor "tokens": number of dimensions/],
  [
    'a key longer than the file',
    () =>
      new Bytes()
        .raw(gguf({ pairCount: 1n }))
        .u64(2 ** 40)
        .zeros(40)
        .toBuffer(),
    /string bytes.*1099511627776/,
  ],
  ['an empty key', () => with_({ pairs: [['', V.u8, 1]] }), /length of key.*got 0/],
  ['a key of 65536 bytes', () => gguf({ pairs: [['k'.repeat(65536), V.u8, 1]] }), /length of key.*got 65536/],
  [
    'a key that is not UTF-8',
    () => gguf({ pairs: [[Buffer.from([0xc3, 0x28]), V.u8, 1]] }),
    /key: expected valid UTF-8/,
  ],
  [
    'a duplicate key',
    () =>
      gguf({
        pairs: [
          ['k', V.u8, 1],
          ['k', V.u8, 2],
        ],
      }),
    /metadata key "k": duplicate key/,
  ],
  ['an unknown value type', () => gguf({ pairs: [['k', 13, 1]] }), /unknown value type.*got 13/],
  ['a huge value type', () => gguf({ pairs: [['k', 0xffffffff, 1]] }), /unknown value type.*got 4294967295/],
  ['an unknown element type', () => arrayOf(99, 1n), /unknown value type.*got 99/],
  ['a bool of 2', () => gguf({ pairs: [['k', V.bool, 2]] }), /bool: expected 0 or 1, got 2/],
  ['a bool of 255 in an array', () => arrayOf(V.bool, 2n, [1, 255]), /bool: expected 0 or 1, got 255/],
  ['arrays nested five deep', () => gguf({ pairs: [['k', V.array, nested(5)]] }), /at most 4 levels/],
  [
    'arrays nested a thousand deep',
    () => gguf({ pairs: [['k', V.array, nested(1000)]] }),
    /at most 4 levels/,
  ],
  ['an array of 2^40 u8', () => arrayOf(V.u8, 2n ** 40n), /array elements.*1099511627776/],
  ['an array of 2^61 u64, whose bytes overflow', () => arrayOf(V.u64, 2n ** 61n), /less than 2\^53/],
  ['an array of 2^50 strings', () => arrayOf(V.string, 2n ** 50n), /array elements/],
  ['an array of 2^50 empty arrays', () => arrayOf(V.array, 2n ** 50n), /array elements/],
  [
    'a string value longer than the file',
    () =>
      new Bytes()
        .raw(gguf({ pairCount: 1n }))
        .string('k')
        .u32(V.string)
        .u64(99)
        .zeros(9)
        .toBuffer(),
    /"k": count of string bytes.*got 99/,
  ],
  ['a value cut short', () => gguf({ pairs: [['kkkkkk', V.u64, 1]] }).subarray(0, -1), /"kkkkkk": truncated/],
  ['alignment 0', () => gguf({ pairs: [['general.alignment', V.u32, 0]] }), /power of two.*got u32 0/],
  ['alignment 3', () => gguf({ pairs: [['general.alignment', V.u32, 3]] }), /power of two.*got u32 3/],
  ['alignment 4', () => gguf({ pairs: [['general.alignment', V.u32, 4]] }), /at least 8, got u32 4/],
  ['alignment 24', () => gguf({ pairs: [['general.alignment', V.u32, 24]] }), /power of two.*got u32 24/],
  [
    'an alignment of another integer type',
    () => gguf({ pairs: [['general.alignment', V.u64, 32]] }),
    /u32.*got u64 32/,
  ],
  [
    'an alignment that is text',
    () => gguf({ pairs: [['general.alignment', V.string, '32']] }),
    /alignment.*got string/,
  ],
  [
    'an alignment beyond the file',
    () => with_({ pairs: [['general.alignment', V.u32, 2 ** 31]] }),
    /past the end/,
  ],
  ['an empty tensor name', () => gguf({ tensors: [{ name: '', dims: [1] }] }), /length of name.*got 0/],
  [
    'a tensor name of 65 bytes',
    () => gguf({ tensors: [{ name: 'n'.repeat(65), dims: [1] }] }),
    /1 to 64 bytes, got 65/,
  ],
  [
    'a tensor name that is not UTF-8',
    () => gguf({ tensors: [{ name: Buffer.from([0xff]), dims: [1] }] }),
    /name: expected valid UTF-8/,
  ],
  [
    'a duplicate tensor',
    () =>
      gguf({
        tensors: [
          { name: 'a', dims: [1] },
          { name: 'a', dims: [1] },
        ],
      }),
    /duplicate tensor "a"/,
  ],
  [
    'five dimensions',
    () => gguf({ tensors: [{ name: 'a', dims: [1, 1, 1, 1, 1] }] }),
    /"a": number of dimensions.*got 5/,
  ],
  [
    '2^32-1 dimensions',
    () => gguf({ tensors: [{ name: 'a', dims: [1], dimCount: 2 ** 32 - 1 }] }),
    /got 4294967295/,
  ],
  [
    'a dimension of 2^64-1',
    () => gguf({ tensors: [{ name: 'a', dims: [2n ** 64n - 1n], bytes: 4 }] }),
    /less than 2\^53/,
  ],
  [
    'dimensions whose product overflows',
    () => gguf({ tensors: [{ name: 'a', dims: [2 ** 40, 2 ** 40], bytes: 4 }] }),
    /"a": size.*1099511627776 × 1099511627776/,
  ],
  [
    'a product of exactly 2^64',
    () => gguf({ tensors: [{ name: 'a', dims: [2 ** 16, 2 ** 16, 2 ** 16, 2 ** 16], bytes: 4 }] }),
    /"a": size/,
  ],
  ['bytes that overflow', () => gguf({ tensors: [{ name: 'a', dims: [2 ** 52], bytes: 4 }] }), /"a": size/],
  [
    'a removed tensor type',
    () => gguf({ tensors: [{ name: 'a', dims: [32], type: 31, bytes: 18 }] }),
    /31 \(Q4_0_4_4, removed/,
  ],
  [
    'an unknown tensor type',
    () => gguf({ tensors: [{ name: 'a', dims: [32], type: 99, bytes: 4 }] }),
    /unknown tensor type.*got 99/,
  ],
  [
    'a tensor type of 2^32-1',
    () => gguf({ tensors: [{ name: 'a', dims: [32], type: 2 ** 32 - 1, bytes: 4 }] }),
    /got 4294967295/,
  ],
  [
    'rows that are no whole blocks',
    () => gguf({ tensors: [{ name: 'a', dims: [48, 2], type: 2, bytes: 54 }] }),
    /row length.*block size 32 of q4_0, got 48/,
  ],
  [
    'rows of K-quants that are no whole blocks',
    () => gguf({ tensors: [{ name: 'a', dims: [128, 2], type: 12, bytes: 144 }] }),
    /block size 256 of q4_k, got 128/,
  ],
  [
    'a scalar in blocks',
    () => gguf({ tensors: [{ name: 'a', dims: [], type: 8, bytes: 34 }] }),
    /row length.*got 1/,
  ],
  ['data cut by one byte', () => with_({}).subarray(0, -1), /tensor "b": past the end/],
  [
    'no data at all',
    () => gguf({ tensors: [{ name: 'a', dims: [64], bytes: 0 }] }),
    /tensor "a": past the end/,
  ],
  [
    'an offset past the end',
    () => gguf({ tensors: [{ name: 'a', dims: [1], offset: 2 ** 20 }] }),
    /past the end/,
  ],
  [
    'an offset of 2^63',
    () => gguf({ tensors: [{ name: 'a', dims: [1], offset: 2n ** 63n }] }),
    /less than 2\^53/,
  ],
  [
    'an offset whose sum overflows',
    () => gguf({ tensors: [{ name: 'a', dims: [1], offset: 2n ** 53n - 32n }] }),
    /past the end/,
  ],
  [
    'an offset past the end of a tensor without elements',
    () => gguf({ tensors: [{ name: 'a', dims: [0], offset: 32 }] }),
    /past the end/,
  ],
  [
    'an unaligned offset',
    () => gguf({ tensors: [{ name: 'a', dims: [1], offset: 4, bytes: 64 }] }),
    /unaligned.*alignment 32, got 4/,
  ],
  [
    'overlapping tensors',
    () =>
      gguf({
        tensors: [
          { name: 'a', dims: [64] },
          { name: 'b', dims: [8], offset: 32 },
        ],
      }),
    /tensors "a" and "b" overlap/,
  ],
  [
    'two tensors at one place',
    () =>
      gguf({
        tensors: [
          { name: 'a', dims: [1] },
          { name: 'b', dims: [1], offset: 0 },
        ],
      }),
    /overlap/,
  ],
];

describe('hostile GGUF files', () => {
  it('starts from a valid one', async () => {
    expect((await openWeights(write('valid.gguf', gguf(valid)))).tensors.size).toBe(2);
  });

  it.each(cases)('refuses %s', async (_, make, message) => {
    const path = write('hostile.gguf', make());
    const error = await openWeights(path).catch((e) => e);
    expect(error).toMatchObject({ name: 'EyrieError', code: 'EYRIE_GGUF' });
    expect(error.message).toMatch(message);
    expect(error.message.startsWith(`${path}: `)).toBe(true);
    expect(error.message).toMatch(/: expected .*, got .*\. [A-Z]/s);
  });

  it('refuses every truncation of a valid file', async () => {
    const content = gguf(valid);
    for (let length = 0; length < content.length; length++) {
      const path = write('cut.gguf', content.subarray(0, length));
      await expect(openWeights(path), `${length} bytes`).rejects.toMatchObject({ code: 'EYRIE_GGUF' });
    }
  });
});
