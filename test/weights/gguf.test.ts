import { openSync, rmSync, symlinkSync, utimesSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { REMOVED_GGML_TYPES } from '../../lib/weights/dtypes.ts';
import { DTYPES, openWeights, type WeightDType } from '../../lib/weights/index.ts';
import { type ArrayValue, gguf, type Pair, temporaryFolder, V } from './write.ts';

const { folder, write } = temporaryFolder();

async function metadataOf(pairs: Pair[], version = 3) {
  const file = await openWeights(write('metadata.gguf', gguf({ pairs, version })));
  return file.metadata!;
}

describe('GGUF metadata', () => {
  const scalars: [keyof typeof V, number | bigint, number | bigint | boolean][] = [
    ['u8', 255, 255],
    ['i8', -128, -128],
    ['u16', 65535, 65535],
    ['i16', -32768, -32768],
    ['u32', 2 ** 32 - 1, 2 ** 32 - 1],
    ['i32', -(2 ** 31), -(2 ** 31)],
    ['f32', 0.5, 0.5],
    ['bool', 1, true],
    ['bool', 0, false],
    ['u64', 2n ** 53n - 1n, 2 ** 53 - 1],
    ['u64', 2n ** 64n - 1n, 2n ** 64n - 1n],
    ['i64', -(2n ** 63n), -(2n ** 63n)],
    ['i64', -5n, -5],
    ['f64', Math.PI, Math.PI],
  ];
  it.each(scalars)('reads %s %s', async (type, written, read) => {
    for (const version of [2, 3]) {
      const metadata = await metadataOf([['k', V[type], written]], version);
      expect(metadata.get('k')).toBe(read);
      expect(metadata.typeOf('k')).toBe(type);
    }
  });

  it.each(scalars)('reads an array of %s %s', async (type, written, read) => {
    const metadata = await metadataOf([['k', V.array, { of: V[type], items: [written, written, written] }]]);
    expect(metadata.get('k')).toEqual([read, read, read]);
    expect(metadata.typeOf('k')).toBe(`array of ${type}`);
    expect(metadata.isArray('k')).toBe(true);
  });

  it('reads nested arrays up to four levels', async () => {
    const level1: ArrayValue = { of: V.string, items: ['a', 'bc', ''] };
    const level2: ArrayValue = { of: V.array, items: [level1, { of: V.u16, items: [7] }] };
    const level3: ArrayValue = { of: V.array, items: [level2, { of: V.bool, items: [] }] };
    const metadata = await metadataOf([
      ['nested', V.array, { of: V.array, items: [level3] }],
      ['after', V.u8, 1],
    ]);
    expect(metadata.get('nested')).toEqual([[[['a', 'bc', ''], [7]], []]]);
    expect(metadata.get('after')).toBe(1);
  });

  it('keeps the exact bytes of strings', async () => {
    const tokens = ['\ufeff', '', Buffer.from([0xff, 0xfe]), 'é', '\0', Buffer.from('\ufeffa')];
    const metadata = await metadataOf([
      ['tokens', V.array, { of: V.string, items: tokens }],
      ['bom', V.string, '\ufeffx'],
      ['broken', V.string, Buffer.from([0x61, 0x80])],
    ]);
    expect(metadata.bytesArray('tokens').map((token) => Buffer.from(token))).toEqual(
      tokens.map((token) => Buffer.from(token as Uint8Array)),
    );
    expect(metadata.string('bom')).toBe('\ufeffx');
    expect(Buffer.from(metadata.bytes('broken'))).toEqual(Buffer.from([0x61, 0x80]));
    expect(() => metadata.string('broken')).toThrow(/"broken".*valid UTF-8.*6180/);
    expect(() => metadata.get('broken')).toThrow(expect.objectContaining({ code: 'EYRIE_GGUF' }));
    expect(() => metadata.strings('tokens')).toThrow(/"tokens".*UTF-8.*fffe at index 2/);
  });

  it('has typed getters that say what they found', async () => {
    const metadata = await metadataOf([
      ['u', V.u32, 3],
      ['f', V.f32, 1.5],
      ['s', V.string, 'text'],
      ['b', V.bool, 1],
      ['big', V.u64, 2n ** 60n],
      ['us', V.array, { of: V.i32, items: [1, -2] }],
      ['ss', V.array, { of: V.string, items: ['x', 'y'] }],
      ['bs', V.array, { of: V.bool, items: [1, 0] }],
      ['none', V.array, { of: V.i32, items: [] }],
    ]);
    expect(metadata.keys()).toEqual(['u', 'f', 's', 'b', 'big', 'us', 'ss', 'bs', 'none']);
    expect(metadata.number('u')).toBe(3);
    expect(metadata.number('f')).toBe(1.5);
    expect(metadata.integer('u')).toBe(3);
    expect(metadata.string('s')).toBe('text');
    expect(metadata.boolean('b')).toBe(true);
    expect(metadata.numbers('us')).toEqual([1, -2]);
    expect(metadata.strings('ss')).toEqual(['x', 'y']);
    expect(metadata.booleans('bs')).toEqual([true, false]);
    expect(metadata.strings('none')).toEqual([]);
    expect(metadata.get('absent')).toBeUndefined();
    expect(metadata.typeOf('absent')).toBeUndefined();
    expect(metadata.number('absent', 7)).toBe(7);
    expect(metadata.strings('absent', [])).toEqual([]);
    expect(metadata.boolean('absent', false)).toBe(false);
    const faults: [() => unknown, RegExp][] = [
      [() => metadata.number('absent'), /"absent": expected number, got no such key/],
      [() => metadata.number('s'), /"s": expected number, got string/],
      [() => metadata.number('b'), /"b": expected number, got bool/],
      [() => metadata.integer('f'), /"f": expected integer, got f32/],
      [() => metadata.string('u', 'fallback'), /"u": expected string, got u32/],
      [() => metadata.number('big'), /"big": expected an integer within ±2\^53, got 1152921504606846976/],
      [() => metadata.numbers('u'), /"u": expected array of numbers, got u32/],
      [() => metadata.numbers('ss'), /"ss": expected array of numbers, got array of string/],
      [() => metadata.strings('us'), /"us": expected array of strings, got array of i32/],
    ];
    for (const [call, message] of faults) {
      expect(call).toThrow(message);
      expect(call).toThrow(expect.objectContaining({ code: 'EYRIE_GGUF' }));
      expect(call).toThrow(metadata.path);
    }
  });

  it('accepts keys that are names of Object.prototype', async () => {
    const metadata = await metadataOf([
      ['__proto__', V.u8, 1],
      ['constructor', V.u8, 2],
    ]);
    expect(metadata.get('__proto__')).toBe(1);
    expect(metadata.get('constructor')).toBe(2);
    expect(metadata.has('toString')).toBe(false);
  });

  it('parses a vocabulary of 128 k', async () => {
    const size = 128_000;
    const tokens = Array.from({ length: size }, (_, i) => `token${i}`);
    const path = write(
      'large.gguf',
      gguf({
        pairs: [
          ['tokenizer.ggml.tokens', V.array, { of: V.string, items: tokens }],
          ['tokenizer.ggml.scores', V.array, { of: V.f32, items: tokens.map((_, i) => -i) }],
          ['tokenizer.ggml.merges', V.array, { of: V.string, items: tokens.map((token) => `${token} x`) }],
        ],
      }),
    );
    const metadata = (await openWeights(path)).metadata!;
    const read = metadata.bytesArray('tokenizer.ggml.tokens');
    expect(Buffer.from(read[size - 1]!).toString()).toBe(`token${size - 1}`);
    expect(metadata.numbers('tokenizer.ggml.scores')[size - 1]).toBe(1 - size);
    expect(metadata.strings('tokenizer.ggml.merges')[1]).toBe('token1 x');
  });

  it('is read again after it was released, unless the file changed', async () => {
    const bytes = gguf({ pairs: [['general.name', V.string, 'first']] });
    const path = write('released.gguf', bytes);
    const metadata = (await openWeights(path)).metadata!;
    metadata.release();
    expect(metadata.string('general.name')).toBe('first');
    metadata.release();
    expect(metadata.has('general.name')).toBe(true);
    utimesSync(path, 1, 1);
    const read = () => metadata.string('general.name');
    expect(read).toThrow(/changed since it was opened: expected the \d+ bytes of .*Load the model again/);
    expect(read).toThrow(expect.objectContaining({ code: 'EYRIE_FILE' }));
    rmSync(path);
    expect(read).toThrow(expect.objectContaining({ code: 'EYRIE_FILE' }));
  });
});

describe('GGUF tensors', () => {
  it('reads names, dtypes, shapes and places', async () => {
    for (const version of [2, 3]) {
      const content = gguf({
        version,
        pairs: [['general.architecture', V.string, 'llama']],
        tensors: [
          { name: 'matrix', dims: [4, 3] },
          { name: 'q', dims: [64, 2], type: 8, bytes: 4 * 34 },
          { name: 'vector', dims: [5] },
          { name: 'scalar', dims: [] },
          { name: 'empty', dims: [0, 4] },
          { name: '__proto__', dims: [1, 2, 3, 4] },
        ],
      });
      const path = write('tensors.gguf', content);
      const file = await openWeights(path);
      expect(file.format).toBe('gguf');
      expect(file.files).toEqual([{ path, bytes: content.length }]);
      expect(
        [...file.tensors.values()].map(({ name, dtype, shape, bytes }) => [name, dtype, shape, bytes]),
      ).toEqual([
        ['matrix', 'f32', [3, 4], 48],
        ['q', 'q8_0', [2, 64], 136],
        ['vector', 'f32', [5], 20],
        ['scalar', 'f32', [], 4],
        ['empty', 'f32', [4, 0], 0],
        ['__proto__', 'f32', [4, 3, 2, 1], 96],
      ]);
      expect(file.totalBytes).toBe(48 + 136 + 20 + 4 + 96);
      // The writer fills each tensor with its number.
      expect(content[file.tensors.get('q')!.offset]).toBe(2);
      expect(content[file.tensors.get('vector')!.offset - 1]).toBe(0);
      expect(content[file.tensors.get('vector')!.offset + 19]).toBe(3);
      expect(file.tensors.get('matrix')!.file).toBe(path);
    }
  });

  it('knows every tensor type in use', async () => {
    const formats = Object.entries(DTYPES).filter(([, format]) => format.ggml !== undefined);
    const ids = [...formats.map(([, format]) => format.ggml!), ...REMOVED_GGML_TYPES.keys()];
    expect(ids.sort((a, b) => a - b)).toEqual(Array.from({ length: 43 }, (_, id) => id));
    const tensors = formats.map(([name, { ggml, blockSize, blockBytes }]) => ({
      name,
      dims: [blockSize * 2, 3],
      type: ggml!,
      bytes: blockBytes * 6,
    }));
    const file = await openWeights(write('types.gguf', gguf({ tensors })));
    for (const [name, { blockBytes }] of formats) {
      expect(file.tensors.get(name)).toMatchObject({ dtype: name, bytes: blockBytes * 6 });
    }
  });

  it('has the block sizes that the parts of a block add up to', () => {
    // Scales and minima, then the bits of the elements from the high plane to the low one, then what else there is.
    const blocks: Partial<Record<WeightDType, [elements: number, ...bytes: number[]]>> = {
      q4_0: [32, 2, 32 / 2],
      q4_1: [32, 2 + 2, 32 / 2],
      q5_0: [32, 2, 32 / 8, 32 / 2],
      q5_1: [32, 2 + 2, 32 / 8, 32 / 2],
      q8_0: [32, 2, 32],
      q8_1: [32, 2 + 2, 32],
      q2_k: [256, 256 / 16, 256 / 4, 2 + 2],
      q3_k: [256, 256 / 8, 256 / 4, 12, 2],
      q4_k: [256, 2 + 2, 12, 256 / 2],
      q5_k: [256, 2 + 2, 12, 256 / 8, 256 / 2],
      q6_k: [256, 256 / 2, 256 / 4, 256 / 16, 2],
      q8_k: [256, 4, 256, (256 / 16) * 2],
      iq2_xxs: [256, 2, (256 / 8) * 2],
      iq2_xs: [256, 2, (256 / 8) * 2, 256 / 32],
      iq2_s: [256, 2, 256 / 4, 256 / 32, 256 / 32],
      iq3_xxs: [256, 2, (3 * 256) / 8],
      iq3_s: [256, 2, 256 / 4, 256 / 32, 256 / 8, 256 / 64],
      iq1_s: [256, 2, 256 / 8, (256 / 32) * 2],
      iq1_m: [256, 256 / 8, 256 / 16, 256 / 32],
      iq4_nl: [32, 2, 32 / 2],
      iq4_xs: [256, 2, 2, 256 / 64, 256 / 2],
      tq1_0: [256, 2, 4 * 13],
      tq2_0: [256, 2, 256 / 4],
      mxfp4: [32, 1, 32 / 2],
      nvfp4: [64, 64 / 16, 64 / 2],
      q1_0: [128, 2, 128 / 8],
      q2_0: [64, 2, 64 / 4],
    };
    for (const [name, [elements, ...bytes]] of Object.entries(blocks)) {
      const { blockSize, blockBytes } = DTYPES[name as WeightDType];
      expect([name, blockSize, blockBytes]).toEqual([name, elements, bytes.reduce((a, b) => a + b)]);
    }
    const blocked = Object.values(DTYPES).filter((format) => format.blockSize > 4);
    expect(blocked).toHaveLength(Object.keys(blocks).length);
  });

  it.each([8, 32, 64, 4096])('honours general.alignment %i', async (alignment) => {
    const content = gguf({
      alignment,
      pairs: [['general.alignment', V.u32, alignment]],
      tensors: [
        { name: 'a', dims: [1] },
        { name: 'b', dims: [1] },
      ],
    });
    const { tensors } = await openWeights(write('alignment.gguf', content));
    expect(tensors.get('b')!.offset - tensors.get('a')!.offset).toBe(alignment);
    expect(content[tensors.get('b')!.offset]).toBe(2);
  });

  it('accepts a file without tensors, with padding after the last one, with a gap', async () => {
    expect((await openWeights(write('none.gguf', gguf({})))).tensors.size).toBe(0);
    const padded = Buffer.concat([gguf({ tensors: [{ name: 'a', dims: [1] }] }), Buffer.alloc(28)]);
    expect((await openWeights(write('padded.gguf', padded))).tensors.size).toBe(1);
    const gap = gguf({ tensors: [{ name: 'a', dims: [8], offset: 32, bytes: 64 }] });
    expect((await openWeights(write('gap.gguf', gap))).tensors.get('a')!.bytes).toBe(32);
  });

  it('opens a relative path, a symlink and a name without extension', async () => {
    const content = gguf({ tensors: [{ name: 'a', dims: [1] }] });
    const path = write('blob', content);
    expect((await openWeights(path)).format).toBe('gguf');
    const link = join(folder, 'link.gguf');
    symlinkSync(path, link);
    expect((await openWeights(link)).tensors.get('a')!.file).toBe(link);
    const relative = join('.', 'test', '..', 'missing.gguf');
    await expect(openWeights(relative)).rejects.toThrow(resolve('missing.gguf'));
  });

  it('refuses a header beyond the limit before reading it', async () => {
    // A sparse file that could hold the array, so that only the limit stands against it.
    const path = write(
      'sparse.gguf',
      gguf({ pairs: [['k', V.array, { of: V.u8, items: [], count: 2n ** 29n }]] }),
    );
    const fd = openSync(path, 'r+');
    writeSync(fd, Buffer.alloc(1), 0, 1, 2 ** 30);
    await expect(openWeights(path)).rejects.toThrow(/array elements.*536870912/);
  });
});
