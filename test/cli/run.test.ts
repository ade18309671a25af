import { beforeAll, describe, expect, it } from 'vitest';
import { sharedPath } from '../helpers/shared.ts';
import { buildCli, eyrie, json, start, TINY } from './eyrie.ts';

beforeAll(buildCli, 120_000);

interface Run {
  promptIds: number[];
  ids: number[];
  text: string;
  finishReason: string;
  seed: number;
  timings: Record<string, number>;
  memory: Record<string, number>;
}

const PUZZLE = '4 7 4 -> 5';
const THOUGHT = '4 + 7 11 + 4 2 5 ; 4 + 7 11 - 4 7 5 ; 4 + 7 11 * 4 5 5 ! </think> <answer> + *';

describe('eyrie run', () => {
  it('solves a puzzle with the model of the package: text on stdout, all else on stderr', async () => {
    const { code, stdout, stderr } = await eyrie(['run', PUZZLE]);
    expect(code).toBe(0);
    expect(stdout).toBe(`${THOUGHT}\n`);
    expect(stderr).toMatch(/no MODEL is named/);
    expect(stderr).toMatch(/loading weights 100 % of 1\.6 MB/);
    expect(stderr.trim().split('\n').at(-1)).toMatch(
      /^prompt 7 tokens, [\d.]+ tokens\/s · 32 tokens, [\d.]+ tokens\/s · peak memory [\d.]+ MB \(weights 1\.6 MB, KV cache 180\.2 kB\)$/,
    );
  });

  it.each([
    ['nothing at all', [], ''],
    ['the prompt on stdin', [], `${PUZZLE}\n`],
    ['- and the prompt on stdin', ['-'], PUZZLE],
    ['a model, and the prompt on stdin', [TINY], PUZZLE],
    ['a model and -', [TINY, '-'], PUZZLE],
    ['a model and a prompt', [TINY, PUZZLE], ''],
    ['a model and a prompt of several words', [TINY, '4 7', '4', '--', '->', '5'], ''],
    ['the rendered prompt with --raw', [TINY, `Q ${PUZZLE} <think>`, '--raw'], ''],
  ])('takes %s', async (_, args, input) => {
    const { code, stdout, stderr } = await eyrie(['run', '--quiet', ...args], { input });
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: `${THOUGHT}\n`, stderr: '' });
  });

  it('does not wait for a standard input that stays silent', async () => {
    const { code, stdout } = await eyrie(['run', '--quiet'], { input: null });
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${THOUGHT}\n` });
  });

  it('--json prints one object', async () => {
    const r = await json<Run>(['run', PUZZLE]);
    expect(Object.keys(r)).toEqual(['promptIds', 'ids', 'text', 'finishReason', 'seed', 'timings', 'memory']);
    expect(r.promptIds).toEqual([17, 4, 7, 4, 18, 5, 19]);
    expect(r.ids).toHaveLength(32);
    expect(r.text).toBe(THOUGHT);
    expect(r.finishReason).toBe('stop');
    for (const key of ['firstTokenMs', 'generateMs', 'promptTokensPerSecond', 'generatedTokensPerSecond']) {
      expect(r.timings[key], key).toBeGreaterThan(0);
    }
    expect(r.memory.total).toBe(r.memory.weights! + r.memory.kv! + r.memory.workspace!);
    expect(r.memory.peak).toBeGreaterThan(r.memory.weights!);
  });

  it('--max-tokens, --stop and the template shape the text', async () => {
    const short = await json<Run>(['run', PUZZLE, '--max-tokens', '5']);
    expect([short.ids.length, short.finishReason, short.text]).toEqual([5, 'length', '4 + 7 11 +']);
    const stopped = await json<Run>(['run', PUZZLE, '--stop', '!', '--stop', ' ;']);
    expect([stopped.finishReason, stopped.text]).toEqual(['stop', '4 + 7 11 + 4 2 5']);
    const raw = await json<Run>(['run', TINY, PUZZLE, '--raw', '--max-tokens', '3']);
    expect(raw.promptIds).toEqual([4, 7, 4, 18, 5]);
    const cut = await eyrie(['run', PUZZLE, '--max-tokens', '5']);
    expect(cut.stderr).toMatch(/ 5 tokens, .*cut at the length limit/);
  });

  it('--context bounds the cache, --kv-dtype and --activations its numbers', async () => {
    const kv = async (...args: string[]) =>
      (await json<Run>(['run', PUZZLE, '--max-tokens', '2', ...args])).memory.kv;
    const half = await kv('--context', '64');
    expect(half).toBe(4 * 2 * 64 * 32 * 2); // layers, K and V, tokens, head, bytes
    expect(await kv('--context', '64', '--kv-dtype', 'bf16')).toBe(half);
    expect(await kv('--context', '64', '--kv-dtype', 'f32')).toBe(2 * half!);
    // A quarter of f32 and the scales: 4 layers of K and V, one f32 or 64 f16.
    expect(await kv('--context', '64', '--kv-dtype', 'f8_e4m3')).toBe(half! / 2 + 4 * 2 * 4);
    expect(await kv('--context', '64', '--kv-dtype', 'i8')).toBe(half! / 2 + 4 * 2 * 64 * 2);
    expect(await kv('--context', '64', '--activations', 'f32')).toBe(2 * half!);
  });

  it('sampling is a function of the seed; without one, runs differ and report it', async () => {
    const hot = ['run', TINY, PUZZLE, '--temperature', '1.5', '--max-tokens', '40'];
    const first = await json<Run>([...hot, '--seed', '7']);
    expect((await json<Run>([...hot, '--seed', '7', '--threads', '2'])).ids).toEqual(first.ids);
    expect((await json<Run>([...hot, '--seed', '8'])).ids).not.toEqual(first.ids);
    const free = await json<Run>(hot);
    expect((await json<Run>([...hot, '--seed', String(free.seed)])).ids).toEqual(free.ids);
  });

  it.each([
    ['--top-k', '1'],
    ['--top-p', '1e-6'],
    ['--min-p', '1'],
  ])('%s %s leaves the most likely token alone', async (flag, value) => {
    const r = await json<Run>(['run', PUZZLE, '--temperature', '1.5', '--seed', '7', flag, value]);
    expect(r.text).toBe(THOUGHT);
  });

  it('an interrupt ends the text, prints the summary and exits with 130', async () => {
    const endless = [
      'run',
      TINY,
      PUZZLE,
      '--temperature',
      '3',
      '--seed',
      '1',
      '--context',
      '352',
      '--max-tokens',
      '340',
    ];
    // Slow arithmetic: enough time for the signal.
    const running = start(endless, { env: { EYRIE_CPU_LEVEL: 'baseline' } });
    await Promise.race([running.begun, running.ended]);
    running.interrupt();
    const { code, stdout, stderr } = await running.ended;
    expect(code).toBe(130);
    expect(stdout).toMatch(/\n$/);
    expect(stderr).toMatch(/interrupted · peak memory/);
  });

  it('a reader that goes away is no error', async () => {
    const running = start(['run', TINY, PUZZLE, '--quiet']);
    running.closeStdout();
    const { code, stderr } = await running.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  it('continues a story exactly', async ({ skip }) => {
    const model = sharedPath('models/stories260k');
    if (!model) return skip('../shared is not here');
    const { code, stdout } = await eyrie([
      'run',
      model,
      'Once upon a time',
      '--raw',
      '--max-tokens',
      '45',
      '--activations',
      'f32',
      '--stop',
      ' She wanted',
    ]);
    expect(code).toBe(0);
    expect(stdout).toBe(
      ', there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.\n',
    );
  });
});
