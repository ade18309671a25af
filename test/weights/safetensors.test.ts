import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DTYPES, openWeights } from '../../lib/weights/index.ts';
import { safetensors, temporaryFolder } from './write.ts';

const { folder, write } = temporaryFolder();
const f32 = (shape: number[], begin: number, end: number) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

describe('safetensors', () => {
  it('reads names, dtypes, shapes and places', async () => {
    const header = {
      __metadata__: { format: 'pt' },
      second: { dtype: 'BF16', shape: [2, 3], data_offsets: [4, 16] },
      first: f32([], 0, 4),
      empty: f32([0, 5], 16, 16),
      emptyBetween: f32([0], 4, 4),
      constructor: { dtype: 'I64', shape: [1], data_offsets: [16, 24] },
    };
    const content = safetensors(header, 24);
    const path = write('one.safetensors', content);
    const file = await openWeights(path);
    const start = content.length - 24;
    expect(file).toMatchObject({ format: 'safetensors', path, metadata: null, totalBytes: 24 });
    expect(file.files).toEqual([{ path, bytes: content.length }]);
    expect(file.tensors.size).toBe(5);
    expect(file.tensors.get('second')).toEqual({
      name: 'second',
      dtype: 'bf16',
      shape: [2, 3],
      file: path,
      offset: start + 4,
      bytes: 12,
    });
    expect(file.tensors.get('first')).toMatchObject({ shape: [], offset: start, bytes: 4 });
    expect(file.tensors.get('constructor')).toMatchObject({ dtype: 'i64', bytes: 8 });
  });

  it('knows every dtype', async () => {
    const formats = Object.entries(DTYPES).filter(([, format]) => format.safetensors !== undefined);
    expect(formats).toHaveLength(22);
    const header: Record<string, unknown> = {};
    let end = 0;
    for (const [name, { safetensors: dtype, blockSize, blockBytes }] of formats) {
      header[name] = { dtype, shape: [3, blockSize], data_offsets: [end, end + 3 * blockBytes] };
      end += 3 * blockBytes;
    }
    const file = await openWeights(write('dtypes.safetensors', safetensors(header, end)));
    for (const [name, { blockBytes }] of formats) {
      expect(file.tensors.get(name)).toMatchObject({ dtype: name, bytes: 3 * blockBytes });
    }
  });

  it('accepts no tensors, padding after the header, unknown fields, unusual names', async () => {
    expect((await openWeights(write('none.safetensors', safetensors('{}')))).tensors.size).toBe(0);
    expect((await openWeights(write('pad.safetensors', safetensors('{}      ')))).tensors.size).toBe(0);
    const text =
      '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"note":[null,true]},"\\u00e9\\n":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}';
    const file = await openWeights(write('names.safetensors', safetensors(text, 3)));
    expect([...file.tensors.keys()]).toEqual(['__proto__', 'é\n', '']);
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
  });

  it('opens a blob without extension', async () => {
    const blob = write('0123abcd', safetensors({ a: f32([1], 0, 4) }, 4));
    expect((await openWeights(blob)).format).toBe('safetensors');
  });
});

describe('safetensors folders', () => {
  const shard = (name: string, begin = 0) => safetensors({ [name]: f32([2], begin, begin + 8) }, 8);
  const model = (name: string, files: Record<string, string | Uint8Array>) => {
    mkdirSync(join(folder, name));
    for (const [file, content] of Object.entries(files)) write(join(name, file), content);
    return join(folder, name);
  };
  const index = (weightMap: unknown) =>
    JSON.stringify({ metadata: { total_size: 16 }, weight_map: weightMap });

  it('opens model.safetensors, also beside an index', async () => {
    const path = model('single', { 'model.safetensors': shard('a'), 'model.safetensors.index.json': '{' });
    expect((await openWeights(path)).path).toBe(join(path, 'model.safetensors'));
  });

  it('opens shards, from the folder or from the index, also through links', async () => {
    const path = model('sharded', {
      'm-1.safetensors': shard('__proto__'),
      blob: shard('b'),
      'model.safetensors.index.json':
        '{"weight_map":{"__proto__":"m-1.safetensors","b":"m-2.safetensors"},"metadata":{"total_size":1.5e1}}',
    });
    symlinkSync('blob', join(path, 'm-2.safetensors'));
    for (const start of [path, join(path, 'model.safetensors.index.json')]) {
      const file = await openWeights(start);
      expect(file.path).toBe(join(path, 'model.safetensors.index.json'));
      expect([...file.tensors.keys()]).toEqual(['__proto__', 'b']);
      expect(file.tensors.get('b')!.file).toBe(join(path, 'm-2.safetensors'));
      expect(file.files.map((entry) => entry.path)).toEqual([
        join(path, 'm-1.safetensors'),
        join(path, 'm-2.safetensors'),
      ]);
      expect(file.totalBytes).toBe(16);
    }
  });

  it('takes only what the index names', async () => {
    const path = model('extra', {
      'm.safetensors': safetensors({ a: f32([1], 0, 4), extra: f32([1], 4, 8) }, 8),
      'model.safetensors.index.json': index({ a: 'm.safetensors' }),
    });
    expect([...(await openWeights(path)).tensors.keys()]).toEqual(['a']);
  });

  const indexFaults: [string, string, string, RegExp][] = [
    [
      'missing shards',
      index({ a: 'x.safetensors', b: 'y.safetensors', c: 'x.safetensors' }),
      'EYRIE_FILE',
      /all 2 shards, got 2 missing: "x.safetensors", "y.safetensors"/,
    ],
    [
      'a shard in the parent folder',
      index({ a: '../m.safetensors' }),
      'EYRIE_SAFETENSORS',
      /plain name.*"\.\.\/m\.safetensors"/,
    ],
    ['an absolute shard', index({ a: '/tmp/m.safetensors' }), 'EYRIE_SAFETENSORS', /plain name/],
    ['a Windows path', index({ a: '..\\m.safetensors' }), 'EYRIE_SAFETENSORS', /plain name/],
    ['a drive', index({ a: 'C:m.safetensors' }), 'EYRIE_SAFETENSORS', /plain name/],
    ['a NUL in a shard', index({ a: 'm\0.safetensors' }), 'EYRIE_SAFETENSORS', /plain name/],
    [
      'another kind of shard',
      index({ a: 'pytorch_model.bin' }),
      'EYRIE_SAFETENSORS',
      /plain name.*pytorch_model/,
    ],
    ['a shard that is no string', index({ a: 7 }), 'EYRIE_SAFETENSORS', /shard of tensor "a".*a number/],
    ['a very long shard name', index({ a: `${'m'.repeat(5000)}.safetensors` }), 'EYRIE_FILE', /1 missing/],
    [
      'a tensor that its shard lacks',
      index({ a: 'm.safetensors', z: 'm.safetensors' }),
      'EYRIE_SAFETENSORS',
      /1 missing.*"m.safetensors": "z"/,
    ],
    ['no weight_map', '{}', 'EYRIE_SAFETENSORS', /"weight_map": expected an object, got nothing/],
    ['an empty weight_map', index({}), 'EYRIE_SAFETENSORS', /at least one tensor/],
    ['a list for a weight_map', index([]), 'EYRIE_SAFETENSORS', /got an array/],
    [
      'a duplicate in the weight_map',
      '{"weight_map":{"a":"m.safetensors","a":"m.safetensors"}}',
      'EYRIE_SAFETENSORS',
      /duplicate key "a"/,
    ],
    ['malformed JSON', '{"weight_map":\n{', 'EYRIE_SAFETENSORS', /line 2, column 2/],
  ];
  it.each(indexFaults)('refuses an index with %s', async (name, text, code, message) => {
    const path = model(name, { 'm.safetensors': shard('a'), 'model.safetensors.index.json': text });
    const error = await openWeights(path).catch((e) => e);
    expect(error).toMatchObject({ name: 'EyrieError', code });
    expect(error.message).toMatch(message);
  });

  it('names a broken shard', async () => {
    const path = model('broken shard', {
      'm.safetensors': shard('a', 8),
      'model.safetensors.index.json': index({ a: 'm.safetensors' }),
    });
    await expect(openWeights(path)).rejects.toThrow(join(path, 'm.safetensors'));
  });

  it('says what a folder without weights has', async () => {
    const faults: [string, RegExp][] = [
      [model('bin', { 'pytorch_model.bin': 'x' }), /pytorch_model\.bin.*Convert them to safetensors/],
      [model('ggufs', { 'a.gguf': 'x', 'b.gguf': 'x' }), /"a\.gguf", "b\.gguf".*path of the one/],
      [model('bare', {}), /no weights in this folder/],
      [join(folder, 'absent'), /no such file or folder/],
      [write('notes.txt', 'hello, this is text'), /not a weight file/],
      ['a\0b', /cannot be read/],
    ];
    for (const [path, message] of faults) {
      const error = await openWeights(path).catch((e) => e);
      expect(error).toMatchObject({ name: 'EyrieError', code: 'EYRIE_FILE' });
      expect(error.message).toMatch(message);
    }
    for (const value of ['', undefined, 7]) {
      await expect(openWeights(value as string)).rejects.toMatchObject({ code: 'EYRIE_INVALID_ARGUMENT' });
    }
    await expect(openWeights(model('dir.gguf', {}))).rejects.toThrow(/no weights in this folder/);
  });
});
