import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { sourceFromFolder, sourceFromGguf } from '../../lib/tokenizer/index.ts';
import { fakeGguf, shared, tinyByteLevel } from './helpers.ts';

const folders: string[] = [];
afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true }))));

const { json } = sourceFromGguf(fakeGguf(tinyByteLevel()));
const id = (token: string) => (tinyByteLevel()['tokenizer.ggml.tokens'] as string[]).indexOf(token);

/** A folder with a tokenizer.json and the given files; objects are written as JSON. */
async function folder(files: Record<string, unknown>): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'eyrie-tokenizer-'));
  folders.push(path);
  for (const [name, content] of Object.entries({ 'tokenizer.json': json, ...files })) {
    if (content === null) continue;
    await writeFile(join(path, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return path;
}
const read = async (files: Record<string, unknown>) => sourceFromFolder(await folder(files));

test('tokenizer.json alone', async () => {
  const source = await read({});
  expect(source).toEqual({
    json,
    eosIds: [],
    bosId: null,
    addBos: false,
    chatTemplate: null,
    templateVars: { bos_token: '', eos_token: '' },
  });
});

test('ids of generation_config.json come before config.json, and the tokenizer adds its own', async () => {
  const config = { eos_token_id: 1, bos_token_id: 2 };
  expect((await read({ 'config.json': config })).eosIds).toEqual([1]);
  expect((await read({ 'config.json': config })).bosId).toBe(2);
  const generation = { eos_token_id: [3, 4], bos_token_id: 5 };
  const both = { 'config.json': config, 'generation_config.json': generation };
  expect((await read(both)).eosIds).toEqual([3, 4]);
  expect((await read(both)).bosId).toBe(5);
  const named = { ...both, 'tokenizer_config.json': { eos_token: '<|im_end|>', bos_token: '<s>' } };
  expect((await read(named)).eosIds).toEqual([3, 4, id('<|im_end|>')]);
  expect((await read(named)).bosId).toBe(id('<s>'));
  const nested = { 'config.json': { text_config: { eos_token_id: 7 } } };
  expect((await read(nested)).eosIds).toEqual([7]);
  const word = { 'tokenizer_config.json': { eos_token: 'hello' } };
  expect((await read(word)).eosIds).toEqual([id('hello')]);
});

test('names of special tokens, as strings or objects', async () => {
  const { templateVars } = await read({
    'special_tokens_map.json': { bos_token: { content: '<s>' }, pad_token: '</s>', sep_token: 'old' },
    'tokenizer_config.json': {
      eos_token: { content: '</s>' },
      sep_token: 'new',
      image_token: '<i>',
      add_bos_token: true,
    },
  });
  expect(templateVars).toEqual({
    bos_token: '<s>',
    eos_token: '</s>',
    pad_token: '</s>',
    sep_token: 'new',
    image_token: '<i>',
  });
});

test('the BOS flag, or a post-processor that starts with BOS', async () => {
  const bos = { bos_token: '<s>' };
  const processor = (tokens: object[]) => {
    const file = JSON.parse(json);
    const single = [...tokens, { Sequence: { id: 'A', type_id: 0 } }];
    const special_tokens = { '<s>': { id: '<s>', ids: [id('<s>')], tokens: ['<s>'] } };
    const template = { type: 'TemplateProcessing', single, pair: single, special_tokens };
    file.post_processor = { type: 'Sequence', processors: [{ type: 'ByteLevel' }, template] };
    return JSON.stringify(file);
  };
  const withBos = processor([{ SpecialToken: { id: '<s>', type_id: 0 } }]);
  const addBos = async (files: Record<string, unknown>) => (await read(files)).addBos;
  expect(await addBos({ 'tokenizer_config.json': bos })).toBe(false);
  expect(await addBos({ 'tokenizer_config.json': { ...bos, add_bos_token: true } })).toBe(true);
  expect(await addBos({ 'tokenizer.json': withBos, 'tokenizer_config.json': bos })).toBe(true);
  expect(
    await addBos({ 'tokenizer.json': withBos, 'tokenizer_config.json': { ...bos, add_bos_token: false } }),
  ).toBe(false);
  expect(await addBos({ 'tokenizer.json': processor([]), 'tokenizer_config.json': bos })).toBe(false);
  expect(await addBos({ 'tokenizer_config.json': { add_bos_token: true } })).toBe(false);
});

test('places of a chat template', async () => {
  const template = async (files: Record<string, unknown>) => (await read(files)).chatTemplate;
  const inConfig = { 'tokenizer_config.json': { chat_template: 'config' } };
  const named = [
    { name: 'tool_use', template: 'tools' },
    { name: 'default', template: 'plain' },
  ];
  expect(await template(inConfig)).toBe('config');
  expect(await template({ 'tokenizer_config.json': { chat_template: named } })).toBe('plain');
  expect(await template({ 'tokenizer_config.json': { chat_template: named.slice(0, 1) } })).toBe('tools');
  expect(await template({ ...inConfig, 'chat_template.json': { chat_template: 'json' } })).toBe('json');
  expect(await template({ ...inConfig, 'chat_template.jinja': 'jinja' })).toBe('jinja');
});

test('missing and malformed files', async () => {
  await expect(read({ 'tokenizer.json': null })).rejects.toMatchObject({
    code: 'EYRIE_TOKENIZER',
    message: expect.stringMatching(/expected a file tokenizer\.json in .*found none/),
  });
  for (const text of ['', '[]', '{', '{"a" 1}', '{"a":"x', '{"a":[1,', '{"added_tokens":[}']) {
    await expect(read({ 'tokenizer.json': text }), text).rejects.toMatchObject({ code: 'EYRIE_TOKENIZER' });
  }
  await expect(read({ 'generation_config.json': '{' })).rejects.toMatchObject({
    code: 'EYRIE_TOKENIZER',
    message: expect.stringContaining('generation_config.json is no valid JSON'),
  });
});

test('the small models', async (context) => {
  const stories = await sourceFromFolder(shared(context, 'models/stories260k'));
  expect(stories).toMatchObject({ bosId: 1, eosIds: [2], addBos: true, chatTemplate: null });
  expect(stories.templateVars).toEqual({ bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' });
  const tiny = await sourceFromFolder(shared(context, 'models/tiny'));
  expect(tiny).toMatchObject({ eosIds: [22], addBos: false });
  expect(tiny.chatTemplate).toContain('add_generation_prompt');
});
