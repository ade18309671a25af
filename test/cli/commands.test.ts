import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { split } from '../../lib/cli/perplexity.ts';
import { sharedPath } from '../helpers/shared.ts';
import { buildCli, eyrie, json, TINY } from './eyrie.ts';

beforeAll(buildCli, 120_000);

describe('eyrie', () => {
  it('says its version and its commands', async () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'));
    expect(await eyrie(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
    const { code, stdout } = await eyrie(['--help']);
    expect(code).toBe(0);
    for (const name of ['run', 'chat', 'info', 'perplexity', 'tokenize', 'build'])
      expect(stdout).toMatch(`  ${name} `);
    const help = await eyrie(['build', '--help']);
    expect(help.stdout).toMatch('--cuda');
  });
});

describe('eyrie chat', () => {
  it('answers each line, keeps the conversation, and forgets it on /reset', async () => {
    const input = '4 7 4 -> 5\n\n1 1 1 -> 3\n/reset\n4 7 4 -> 5\n/exit\n2 2 2 -> 4\n';
    const { code, stdout, stderr } = await eyrie(['chat', TINY], { input });
    expect(code).toBe(0);
    const answers = stdout.trim().split('\n');
    expect(answers).toHaveLength(3);
    expect(answers[0]).toMatch(/<answer> \+ \*$/);
    expect(answers[2]).toBe(answers[0]);
    // What is used of the context: the second turn has the first one before it, the third one does not.
    const used = [...stderr.matchAll(/(\d+) of 352 tokens of context/g)].map((m) => Number(m[1]));
    expect(used).toHaveLength(3);
    expect(used[1]).toBeGreaterThan(used[2]!);
    expect(used[2]).toBe(used[0]);
  });

  it('--quiet leaves the answers alone; the options of run hold', async () => {
    const args = ['chat', TINY, '--quiet', '--max-tokens', '3', '--stop', '11'];
    const ending = await eyrie(args, { input: '4 7 4 -> 5' });
    expect(ending).toEqual({ code: 0, stdout: '4 + 7\n', stderr: '' });
  });

  it('refuses a model without a chat template', async ({ skip }) => {
    const model = sharedPath('models/stories260k');
    if (!model) return skip('../shared is not here');
    const { code, stdout, stderr } = await eyrie(['chat', model, '--quiet'], { input: 'Hello\n' });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/no chat template; .*--raw \(EYRIE_TEMPLATE\)/);
  });
});

describe('eyrie info', () => {
  it('shows a model and the machine', async () => {
    const { code, stdout, stderr } = await eyrie(['info', TINY]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^architecture +LlamaForCausalLM$/m);
    expect(stdout).toMatch(/^attention +3 heads of 32, 1 for keys and values$/m);
    expect(stdout).toMatch(/^tensors +f32: 38, 1\.6 MB$/m);
    expect(stdout).toMatch(/^chat template +yes$/m);
    expect(stdout).toMatch(/^level +\w+: the best of baseline/m);
    expect(stdout).toMatch(/^CUDA +\S/m);
  });

  it('plans the memory as a load does', async () => {
    const options = ['--context', '100', '--kv-dtype', 'f32'];
    const { model } = await json<{ model: { memory: Record<string, number> } }>(['info', TINY, ...options]);
    const { context, ...plan } = model.memory;
    const { memory } = await json<{ memory: Record<string, number> }>([
      'run',
      TINY,
      '1',
      '--max-tokens',
      '1',
      ...options,
    ]);
    expect(context).toBe(100);
    expect({ ...plan, peak: memory.peak }).toEqual(memory);
  });

  it('says what the environment chose', async () => {
    const env = { EYRIE_CPU_LEVEL: 'baseline', EYRIE_THREADS: '1' };
    const { stdout } = await eyrie(['info'], { env });
    expect(stdout).not.toMatch(/^architecture/m);
    expect(stdout).toMatch(/^level +baseline: (chosen by EYRIE_CPU_LEVEL out|the best) of baseline/m);
    expect(stdout).toMatch(/^threads +1 /m);
  });

  it('describes what cannot be run', async ({ skip }) => {
    const path = sharedPath('data/vocab/gpt-2.gguf');
    if (!path) return skip('../shared is not here');
    const { model } = await json<{ model: Record<string, unknown> }>(['info', path]);
    expect(model).toMatchObject({
      architecture: 'gpt2',
      config: null,
      memory: null,
      tokenizer: { present: true },
    });
    expect(model.unsupported).toMatch(/no weights/);
  });
});

describe('eyrie perplexity', () => {
  // The expected values come from a forward pass written in NumPy, in float64, over the same ids.
  it('equals the reference, and tells what it did', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'eyrie-cli-'));
    const file = join(folder, 'text.txt');
    const line = 'Q 4 7 4 -> 5 4 + 7 11 + 4 2 5 ; 4 + 7 11 - 4 7 5 ; 1 2 3 M + * -> 9 ! Wait\n';
    writeFileSync(file, line.repeat(8));
    try {
      const args = ['--tokens', '200', '--window', '64', '--activations', 'f32'];
      const r = await json<Record<string, number>>(['perplexity', TINY, file, ...args]);
      expect(r).toMatchObject({ tokens: 196, windows: 4, window: 64, activations: 'f32' });
      expect(r.meanNll).toBeCloseTo(8.202982, 4);
      expect(r.perplexity).toBeCloseTo(Math.exp(r.meanNll!), 6);
      expect(r.tokensPerSecond).toBeGreaterThan(0);
      const { code, stdout, stderr } = await eyrie(['perplexity', TINY, file]);
      expect(code).toBe(0);
      expect(stdout).toMatch(
        /^perplexity [\d.]+ · 271 tokens scored in 1 window of 352 · [\d.]+ tokens\/s\n$/,
      );
      expect(stderr).toMatch(/window 1 of 1: perplexity/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('splits a text into contexts', () => {
    expect(split([1, 2, 3, 4, 5, 6, 7], 3, null)).toEqual([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect(split([1, 2, 3, 4, 5], 3, 9)).toEqual([
      [9, 1, 2],
      [9, 3, 4],
      [9, 5],
    ]);
    expect(split([1], 3, null)).toEqual([]);
  });

  it('equals the reference on real text, BOS at the start of each context', async ({ skip }) => {
    const model = sharedPath('models/stories260k');
    const text = sharedPath('data/tinyshakespeare.txt');
    if (!model || !text) return skip('../shared is not here');
    const args = ['perplexity', model, text, '--tokens', '512', '--window', '128', '--activations', 'f32'];
    const r = await json<Record<string, number>>(args);
    expect(r).toMatchObject({ tokens: 512, windows: 5 });
    expect(r.perplexity).toBeCloseTo(62.3688, 3);
  });
});

describe('eyrie tokenize', () => {
  it.for(['deepseek-coder', 'gpt-2', 'llama-spm'])(
    '%s: the vectors of a vocabulary',
    async (name, { skip }) => {
      const path = sharedPath(`data/vocab/${name}.gguf`);
      if (!path) return skip('../shared is not here');
      const texts = readFileSync(`${path}.inp`, 'utf8').split('\n__ggml_vocab_test__\n');
      const wanted = readFileSync(`${path}.out`, 'utf8').split('\n');
      // A process each: some of them, spread over the file.
      for (const i of [1, 20, texts.length - 1]) {
        const { code, stdout, stderr } = await eyrie(['tokenize', path], { input: texts[i]! });
        expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
        expect(stdout.trim(), JSON.stringify(texts[i])).toBe(wanted[i]!.trim());
      }
    },
  );

  it('a folder; control tokens and BOS with --special only', async ({ skip }) => {
    const input = 'Q 4 -> 5 <think>';
    expect(await eyrie(['tokenize', TINY, '--special'], { input })).toMatchObject({
      stdout: '17 4 18 5 19\n',
    });
    const plain = await json(['tokenize', TINY], { input });
    expect(plain).toEqual({ ids: [17, 4, 18, 5, 26], tokens: [' Q', ' 4', ' ->', ' 5', ' <pad>'] });
    const llama = sharedPath('data/vocab/llama-spm.gguf');
    if (!llama) return skip('../shared is not here');
    const text = await json<{ ids: number[] }>(['tokenize', llama], { input: '<s>' });
    expect(text.ids).not.toContain(1);
    const special = await json<{ ids: number[] }>(['tokenize', llama, '--special'], { input: '<s>' });
    expect(special.ids).toEqual([1, 1]);
  });
});
