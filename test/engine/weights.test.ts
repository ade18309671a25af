// What quantising at load costs and does not cost: logits near those of the file's own matrices, the same bits in any company, a plan that holds.
import { describe, expect, it } from 'vitest';
import { Evaluator } from '../../lib/engine/index.ts';
import { load } from '../../lib/index.ts';
import {
  loadWeights,
  openModel,
  QUANTIZATIONS,
  type Quantization,
  weightBytes,
} from '../../lib/models/index.ts';
import { native } from '../../lib/native/load.ts';
import type { SamplingParams } from '../../lib/sampling/index.ts';
import { Stream } from '../../lib/tensor/index.ts';
import { another, backends, streamOptions } from '../helpers/describe-op.ts';
import { goldenGguf, goldenModel, ids, makeEngine, run } from '../helpers/engine.ts';
import { distance } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';

/** Of the logits, relative to their norm. Random weights make the most of an error; the exact tests are those of the ops. */
const ALLOWED: Record<Quantization, number> = { int8: 0.15, fp8: 0.4, int4: 0.8, 'int4-g128': 0.9 };

for (const backend of backends) {
  describe(`weights quantised at load on ${backend.name}`, () => {
    it.each(['llama32', 'qwen2'])('%s: logits near those of the file', async (name) => {
      const files = await openModel(goldenModel(name));
      const stream = another(backend, 2);
      const prompt = [...new Random(3).integers(40, 5, 100)];
      const logits = async (weights?: Quantization) => {
        const model = await loadWeights(files, stream, { activations: 'f32', positions: 64, weights });
        const evaluator = new Evaluator(model, { length: 64, kvDtype: 'f32', chunk: 48 });
        const got = await evaluator.logits(prompt, [0, 17, 39]);
        evaluator.dispose();
        model.dispose();
        return got;
      };
      const want = await logits();
      for (const weights of QUANTIZATIONS) {
        const got = await logits(weights);
        for (const [p, w] of want) {
          const { relative } = distance(got.get(p)!, w);
          expect(relative, `${weights} at ${p}`).toBeLessThanOrEqual(ALLOWED[weights]);
          expect(relative, `${weights} at ${p}`).toBeGreaterThan(0);
        }
      }
      stream.dispose();
    });

    it.each(QUANTIZATIONS)('%s: a request has the same tokens alone and among others', async (weights) => {
      const r = new Random(9);
      const requests = Array.from({ length: 5 }, (_, i) => ({
        prompt: [...r.integers([1, 15, 33, 64, 40][i]!, 5, 100)],
        sampling: { temperature: i % 2 ? 0.9 : 0, seed: i } satisfies SamplingParams,
      }));
      const alone = await makeEngine('llama32', {}, streamOptions(backend, 2), weights);
      const want: number[][] = [];
      for (const { prompt, sampling } of requests)
        want.push(ids(await run(alone.engine, prompt, sampling, 12)));
      await alone.close();
      const together = await makeEngine(
        'llama32',
        { maxBatchTokens: 24 },
        streamOptions(backend, 2),
        weights,
      );
      const got = await Promise.all(
        requests.map(async ({ prompt, sampling }) => ids(await run(together.engine, prompt, sampling, 12))),
      );
      await together.close();
      expect(got).toEqual(want);
    });
  });
}

describe('load({ weights })', () => {
  it('plans what loading allocates', async () => {
    for (const path of [goldenModel('llama32'), goldenGguf('llama-f16'), goldenGguf('llama-kquants')]) {
      const files = await openModel(path);
      for (const weights of path.includes('kquants') ? [undefined] : [undefined, ...QUANTIZATIONS]) {
        const stream = new Stream({ device: 'cpu', threads: 1 });
        const before = native().memory().allocated;
        const model = await loadWeights(files, stream, { activations: 'auto', positions: 2, weights });
        const rope = 2 * files.config.rope.dims * 4;
        // What is in the file but not in memory: the divisors of the rope table.
        const divisors = files.weights.tensors.get('rope_freqs.weight')?.bytes ?? 0;
        const allocated = native().memory().allocated - before - rope;
        expect(weightBytes(files.weights, weights) - divisors, `${path} ${weights}`).toBe(allocated);
        model.dispose();
        stream.dispose();
      }
    }
  });

  it('refuses what it does not know, and matrices that are quantised already', async () => {
    const path = goldenGguf('llama-f16');
    await expect(load(path, { device: 'cpu', weights: 'int3' as 'int4' })).rejects.toThrow(
      /weights: expected 'int8', 'fp8', 'int4', 'int4-g128', or nothing to keep what the file has, got 'int3'/,
    );
    await expect(load(goldenGguf('qwen2-q4_1'), { device: 'cpu', weights: 'int8' })).rejects.toMatchObject({
      code: 'EYRIE_UNSUPPORTED',
      message: expect.stringMatching(/is q4_1 already, and weights: 'int8' quantises f32, f16 and bf16/),
    });
  });
});
