import { describe, expect, it } from 'vitest';
import { openWeights, readJsonFile } from '../../lib/weights/index.ts';
import { sharedPath } from '../helpers/shared.ts';

const smol = sharedPath('models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf');
const stories = sharedPath('models/stories260k');
const tiny = sharedPath('models/tiny');
const vocabularies = ['deepseek-coder', 'gpt-2', 'llama-spm'].map(
  (name) => [name, sharedPath(`data/vocab/${name}.gguf`)] as const,
);

/** A skipped test says in its title what it lacks. */
const unless = (path: string | null, what: string) =>
  path ? '' : ` (skipped: no ${what} in the shared folder)`;

describe('real files', () => {
  it.skipIf(!smol)(`SmolLM2-135M${unless(smol, 'SmolLM2 GGUF')}`, async () => {
    const file = await openWeights(smol!);
    expect(file.tensors.size).toBe(272);
    const q4 = [...file.tensors.values()].filter((tensor) => tensor.dtype === 'q4_1');
    expect(q4).toHaveLength(210);
    expect(q4.every((tensor) => tensor.shape.length === 2)).toBe(true);
    expect(file.tensors.get('token_embd.weight')).toMatchObject({ dtype: 'q8_0', shape: [49152, 576] });
    expect(file.tensors.get('blk.29.ffn_down.weight')).toMatchObject({ dtype: 'q4_1', shape: [576, 1536] });
    expect(file.tensors.get('output_norm.weight')).toMatchObject({ dtype: 'f32', shape: [576], bytes: 2304 });
    // The tensors fill the file but for the header and padding.
    expect(file.files[0]!.bytes - file.totalBytes).toBeLessThan(4 * 2 ** 20);
    const metadata = file.metadata!;
    expect(metadata.string('general.architecture')).toBe('llama');
    expect(metadata.integer('llama.block_count')).toBe(30);
    expect(metadata.integer('llama.attention.head_count_kv')).toBe(3);
    expect(metadata.number('llama.attention.layer_norm_rms_epsilon')).toBeCloseTo(1e-5);
    expect(metadata.bytesArray('tokenizer.ggml.tokens')).toHaveLength(49152);
    expect(metadata.string('tokenizer.chat_template')).toContain('im_start');
  });

  it.skipIf(!stories)(`stories260k${unless(stories, 'stories260k')}`, async () => {
    const file = await openWeights(stories!);
    const config = await readJsonFile(`${stories}/config.json`);
    expect(file.tensors.get('model.embed_tokens.weight')).toMatchObject({
      dtype: 'f32',
      shape: [config.vocab_size, config.hidden_size],
    });
    expect(file.files).toHaveLength(1);
  });

  it.skipIf(!tiny)(`tiny${unless(tiny, 'tiny')}`, async () => {
    expect((await openWeights(tiny!)).tensors.size).toBeGreaterThan(0);
    for (const name of ['config.json', 'tokenizer.json']) {
      const text = await readJsonFile(`${tiny}/${name}`);
      expect(Object.keys(text).length).toBeGreaterThan(0);
    }
  });

  for (const [name, path] of vocabularies) {
    it.skipIf(!path)(`vocabulary ${name}${unless(path, `${name} vocabulary`)}`, async () => {
      const file = await openWeights(path!);
      expect(file.tensors.size).toBe(0);
      expect(file.totalBytes).toBe(0);
      const tokens = file.metadata!.bytesArray('tokenizer.ggml.tokens');
      expect(tokens.length).toBeGreaterThan(30_000);
      expect(file.metadata!.numbers('tokenizer.ggml.token_type')).toHaveLength(tokens.length);
      expect(tokens.every((token) => token.length > 0)).toBe(true);
      // U+FEFF is a token of Llama 2, which a decoder that strips it would lose.
      if (name === 'llama-spm') expect(Buffer.from(tokens[30143]!).toString('hex')).toBe('efbbbf');
    });
  }
});
