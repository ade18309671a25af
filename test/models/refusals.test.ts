import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { load } from '../../lib/engine/index.ts';
import { native } from '../../lib/native/load.ts';

type Json = Record<string, unknown>;

/** Models that must be refused with a typed error, and leave nothing behind. Each is the shipped one with one thing wrong. */
const CASES: [string, (folder: string) => void, string, RegExp][] = [
  [
    'an unknown architecture',
    config({ architectures: ['MambaForCausalLM'] }),
    'EYRIE_ARCHITECTURE',
    /MambaForCausalLM.*supported: .*LlamaForCausalLM/s,
  ],
  ['no architecture', config({ architectures: [] }), 'EYRIE_ARCHITECTURE', /none named/],
  ['an unknown activation', config({ hidden_act: 'gelu' }), 'EYRIE_ARCHITECTURE', /gelu/],
  ['biases that this family does not have', config({ mlp_bias: true }), 'EYRIE_ARCHITECTURE', /mlp_bias/],
  [
    'an unknown rotary scaling',
    config({ rope_scaling: { type: 'dynamic', factor: 2 } }),
    'EYRIE_ARCHITECTURE',
    /dynamic/,
  ],
  [
    'a vocabulary that contradicts the weights',
    config({ vocab_size: 28 }),
    'EYRIE_CONFIG',
    /embed_tokens.*\[27,96\].*\[28,96\]/,
  ],
  [
    'more layers than the file has',
    config({ num_hidden_layers: 9 }),
    'EYRIE_CONFIG',
    /model\.layers\.4\..* is missing/,
  ],
  ['an absurd number of layers', config({ num_hidden_layers: 1e9 }), 'EYRIE_CONFIG', /num_hidden_layers/],
  [
    'heads that do not divide',
    config({ num_key_value_heads: 2 }),
    'EYRIE_CONFIG',
    /3 attention heads cannot share 2/,
  ],
  ['a negative size', config({ hidden_size: -96 }), 'EYRIE_CONFIG', /hiddenSize|headDim/],
  ['a size that is text', config({ hidden_size: '96' }), 'EYRIE_CONFIG', /"hidden_size" must be a number/],
  ['a missing size', config({ hidden_size: undefined }), 'EYRIE_CONFIG', /"hidden_size" is missing/],
  [
    'an untied head that is not there',
    config({ tie_word_embeddings: false }),
    'EYRIE_CONFIG',
    /lm_head\.weight/,
  ],
  [
    'a config.json that is no JSON',
    (f) => writeFileSync(join(f, 'config.json'), '{"a":'),
    'EYRIE_CONFIG',
    /config\.json/,
  ],
  ['no config.json', (f) => rmSync(join(f, 'config.json')), 'EYRIE_CONFIG', /config\.json/],
  ['no weights', (f) => rmSync(join(f, 'model.safetensors')), 'EYRIE_FILE', /safetensors/],
  [
    'weights cut off',
    (f) => truncateSync(join(f, 'model.safetensors'), 1_000_000),
    'EYRIE_SAFETENSORS',
    /model\.safetensors/,
  ],
  ['no tokenizer', (f) => rmSync(join(f, 'tokenizer.json')), 'EYRIE_TOKENIZER', /tokenizer\.json/],
  [
    'a tokenizer that is no JSON',
    (f) => writeFileSync(join(f, 'tokenizer.json'), '[]'),
    'EYRIE_TOKENIZER',
    /tokenizer/,
  ],
  ['a tokenizer with ids that the model lacks', extraToken, 'EYRIE_TOKENIZER', /27/],
];

function edit(folder: string, file: string, change: (json: Json) => void): void {
  const path = join(folder, file);
  const json = JSON.parse(readFileSync(path, 'utf8')) as Json;
  change(json);
  writeFileSync(path, JSON.stringify(json));
}

function config(change: Json): (folder: string) => void {
  return (folder) => edit(folder, 'config.json', (json) => Object.assign(json, change));
}

function extraToken(folder: string): void {
  edit(folder, 'tokenizer.json', (json) => {
    (json.added_tokens as Json[]).push({
      id: 40,
      content: '<extra>',
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    });
  });
}

describe('load refuses', () => {
  const tiny = fileURLToPath(new URL('../../models/tiny', import.meta.url));
  let work: string;
  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), 'eyrie-refusals-'));
  });
  afterAll(() => rmSync(work, { recursive: true, force: true }));

  it.each(CASES)('%s', async (name, spoil, code, message) => {
    const folder = join(work, name.replaceAll(' ', '-'));
    cpSync(tiny, folder, { recursive: true });
    spoil(folder);
    const before = native().memory();
    const error = await load(folder).then(
      async (llm) => {
        await llm.dispose();
        return null;
      },
      (e: unknown) => e,
    );
    expect(error).toMatchObject({ name: 'EyrieError', code });
    expect((error as Error).message).toMatch(message);
    expect(native().memory()).toMatchObject({ tensors: before.tensors, streams: before.streams });
  });
});
