import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SAMPLING_COLUMNS } from '../../lib/native/ops.gen.ts';
import { buildCli, eyrie, TINY } from './eyrie.ts';

const folder = mkdtempSync(join(tmpdir(), 'eyrie-cli-'));
const corrupt = join(folder, 'corrupt.gguf');
const bytes = join(folder, 'bytes.txt');
const word = join(folder, 'word.txt');

beforeAll(async () => {
  writeFileSync(corrupt, 'GGUF and then nothing of the kind');
  writeFileSync(bytes, Uint8Array.of(0x41, 0xff, 0xfe));
  writeFileSync(word, '4');
  await buildCli();
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true }));

describe('usage errors: exit code 2, the option, its range and what came', () => {
  it.each<[string[], RegExp]>([
    [[], /Usage: eyrie/],
    [['fly'], /eyrie: unknown command 'fly'/],
    [['run', '--wings'], /eyrie: unknown option '--wings'/],
    [['run', TINY, ''], /eyrie: no prompt/],
    [['run', TINY], /eyrie: no prompt/],
    [['run', 'x', '--max-tokens', '0'], /--max-tokens <n>' argument '0'.* integer >= 1, got '0'/],
    [['run', 'x', '--threads', '1.5'], /--threads <n>'.* integer >= 1, got '1.5'/],
    [['run', 'x', '--context', '1'], /--context <n>'.* integer >= 2, got '1'/],
    [['run', 'x', '--seed', '-1'], /--seed <n>'.* integer from 0 to 2\^53 - 1, got -1/],
    [['run', 'x', '--top-p', '0'], /--top-p <number>'.* number above 0, got 0/],
    [['run', 'x', '--top-k', '0.5'], /--top-k <number>'.* an integer, got 0.5/],
    [['run', 'x', '--temperature', '0x1'], /--temperature <number>'.* a number, got '0x1'/],
    [['run', 'x', '--stop', ''], /--stop <text>'.* a text, got an empty one/],
    [['run', 'x', '--stop'], /'--stop <text>' argument missing/],
    [['run', 'x', '--device', 'gpu'], /--device <name>'.* auto, cpu or cuda:N, got 'gpu'/],
    [['run', 'x', '--activations', 'f8'], /--activations <type>' argument 'f8'.*auto, f32/],
    [['run', 'x', '--kv-dtype', 'f8'], /--kv-dtype <type>' argument 'f8'.*f32, f16, bf16, f8_e4m3, i8/],
    [['run', 'x', '--weights', 'q4'], /--weights <format>' argument 'q4'.*int8, fp8, int4, int4-g128/],
    [['chat'], /missing required argument 'model'/],
    [['perplexity', TINY], /missing required argument 'file'/],
    [['perplexity', TINY, 'x', '--window', '1'], /--window <n>'.* integer >= 2, got '1'/],
    [['tokenize'], /missing required argument 'model'/],
    [['info', TINY, TINY], /too many arguments/],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await eyrie(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(message);
  });

  it('every column of the sampler has its range', async () => {
    for (const { name, min, max } of SAMPLING_COLUMNS) {
      const flag = `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
      const { code, stderr } = await eyrie(['run', 'x', flag, String(max * 10)]);
      expect(code).toBe(2);
      expect(stderr).toContain(`option '${flag} <number>'`);
      expect(stderr).toContain(`from ${min} to ${max}, got ${max * 10}`);
    }
  });
});

describe('errors: exit code 1, one message with its code on stderr, nothing on stdout', () => {
  it.each<[string[], RegExp]>([
    [['run', './none'], /^eyrie: \.\/none does not exist; .* \(EYRIE_FILE\)\n$/],
    [['run', 'none.gguf', 'x'], /^eyrie: none\.gguf does not exist.* \(EYRIE_FILE\)\n$/],
    [['run', corrupt, 'x', '--json'], /^eyrie: .*corrupt\.gguf.* \(EYRIE_GGUF\)\n$/],
    [['run', TINY, 'x', '--device', 'cuda:7', '--json'], /^eyrie: .* \(EYRIE_(UNSUPPORTED|NO_DEVICE)\)\n$/],
    [
      ['run', TINY, 'x', '--context', '1000', '--json'],
      /^eyrie: .*352, got 1000 \(EYRIE_INVALID_ARGUMENT\)\n$/,
    ],
    [['run', TINY, '1 '.repeat(400), '--json'], /^eyrie: .* \(EYRIE_CONTEXT_LENGTH\)\n$/],
    [['chat', 'none'], /^eyrie: none does not exist.* \(EYRIE_FILE\)\n$/],
    [['info', 'none'], /^eyrie: .*none.* \(EYRIE_FILE\)\n$/],
    [['info', corrupt], /\(EYRIE_GGUF\)\n$/],
    [['info', TINY, '--context', '1000'], /^eyrie: contextLength: .*352, got 1000/],
    [['perplexity', TINY, 'none.txt'], /^eyrie: none\.txt: .*does not exist \(EYRIE_FILE\)\n$/],
    [['perplexity', TINY, bytes], /^eyrie: .*bytes\.txt: expected UTF-8.* \(EYRIE_INVALID_ARGUMENT\)\n$/],
    [['perplexity', TINY, word, '--json'], /two tokens or more, got 1 token/],
    [['perplexity', TINY, word, '--window', '1000', '--json'], /352, got 1000/],
    [['tokenize', 'none'], /\(EYRIE_FILE\)\n$/],
    [['tokenize', folder], /\(EYRIE_(FILE|TOKENIZER)\)\n$/],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await eyrie(args);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it('EYRIE_DEBUG=1 shows where', async () => {
    const { stderr } = await eyrie(['run', './none'], { env: { EYRIE_DEBUG: '1' } });
    expect(stderr).toMatch(/^\s+at /m);
  });

  it('a missing addon is explained', async () => {
    const { code, stdout, stderr } = await eyrie(['info'], {
      env: { EYRIE_ADDON: join(folder, 'none.node') },
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/EYRIE_ADDON names .*\(EYRIE_NATIVE_LOAD\)/s);
  });

  it('bytes that are no text are refused on standard input', async () => {
    for (const args of [
      ['tokenize', TINY],
      ['run', '-'],
    ]) {
      const { code, stderr } = await eyrie(args, { input: Uint8Array.of(0x41, 0xff) });
      expect(code).toBe(1);
      expect(stderr).toMatch(/standard input: expected UTF-8/);
    }
  });
});
