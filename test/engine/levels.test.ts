// What the levels of a CPU have in common: a whole generation, bit for bit, on all with portable arithmetic; and what a level with bits of its own
// promises nevertheless.
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Engine, Evaluator } from '../../lib/engine/index.ts';
import { load } from '../../lib/index.ts';
import { loadWeights, openModel } from '../../lib/models/index.ts';
import { native } from '../../lib/native/load.ts';
import { Stream } from '../../lib/tensor/index.ts';
import { inPairs } from '../helpers/describe-op.ts';
import { goldenGguf, goldenModel, ids, run } from '../helpers/engine.ts';
import { Random } from '../helpers/random.ts';

const MODELS = [
  goldenGguf('llama-kquants'),
  goldenGguf('llama-q4_0'),
  goldenGguf('llama-q8_0'),
  goldenGguf('qwen2-q4_1'),
  goldenModel('smollm2'), // bf16
  goldenGguf('llama-f16'),
];
const COUNT = 24;
const { levels } = native().machine();
const portable = levels.filter((level) => level !== 'baseline' && !inPairs(level));

/** SHA-256 of the greedy tokens after a prompt and of the logits behind each of them. */
async function hashOf(path: string, level: string, threads: number, chunk: number): Promise<string> {
  const stream = new Stream({ level, threads });
  const model = await loadWeights(await openModel(path), stream, { activations: 'auto', positions: 96 });
  const engine = new Engine(model, {
    contextLength: 96,
    kvTokens: 96,
    kvDtype: 'f16',
    maxBatchTokens: 40,
    maxSequences: 1,
  });
  const prompt = [...new Random(17).integers(33, 5, 100)];
  const tokens = ids(await run(engine, prompt, { temperature: 0 }, COUNT));
  await engine.close();
  const evaluator = new Evaluator(model, { length: 96, kvDtype: 'f16', chunk });
  const text = [...prompt, ...tokens];
  const places = tokens.map((_, i) => prompt.length - 1 + i);
  const logits = await evaluator.logits(text, places);
  const hash = createHash('sha256').update(Int32Array.from(tokens));
  for (const place of places) hash.update(logits.get(place)!);
  evaluator.dispose();
  model.dispose();
  stream.dispose();
  return hash.digest('hex');
}

describe('portable arithmetic', () => {
  if (portable.length < 2)
    it.skip(`levels are compared where there are two: this processor has ${portable.join(', ') || 'none'}`, () => {});
  for (const path of MODELS) {
    it(`a generation of ${path.split('/').at(-1)} has the same logits on ${portable.join(', ')}`, async () => {
      const want = await hashOf(path, portable[0] ?? 'baseline', 1, 64);
      console.log(`logits of ${path.split('/').at(-1)}: ${want}`);
      for (const level of [...portable, ...(portable.length > 0 ? ['portable'] : [])])
        expect(await hashOf(path, level, 2, 64), level).toBe(want);
    });
  }

  it('load takes the best level that has it, and refuses what contradicts it', async () => {
    const path = goldenGguf('qwen3-q4_0');
    const llm = await load(path, { device: 'cpu', threads: 1, arithmetic: 'portable' });
    expect(llm.stream.name).toBe(portable.at(-1) ?? 'baseline');
    await llm.dispose();
    for (const [options, message] of [
      [{ arithmetic: 'exact' as 'native' }, /arithmetic: expected 'native' or 'portable', got 'exact'/],
      [{ arithmetic: 'portable', level: 'avx2' }, /chooses a level, and level is 'avx2'/],
    ] as const)
      await expect(load(path, { device: 'cpu', ...options })).rejects.toMatchObject({
        code: 'EYRIE_INVALID_ARGUMENT',
        message: expect.stringMatching(message),
      });
  });
});

describe('native arithmetic', () => {
  const own = levels.filter(inPairs);
  if (own.length === 0)
    it.skip('no level of this processor has bits of its own (avx512_bf16: AMD Zen 4)', () => {});
  for (const level of own)
    for (const path of MODELS)
      it(`${level}: the same logits of ${path.split('/').at(-1)} with other threads and chunks`, async () => {
        const want = await hashOf(path, level, 1, 64);
        for (const [threads, chunk] of [
          [2, 1],
          [3, 7],
          [2, 64],
        ] as const)
          expect(await hashOf(path, level, threads, chunk), `${threads} threads, chunks of ${chunk}`).toBe(
            want,
          );
      });
});
