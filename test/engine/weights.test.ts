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
import type { SamplingParams } from '../../lib/sampling/index.ts';
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
  it('plans what quantised matrices take', async () => {
    const files = await openModel(goldenModel('llama32'));
    const parameters = [...files.weights.tensors.values()]
      .filter((t) => t.shape.length === 2)
      .reduce((n, t) => n + t.shape[0]! * t.shape[1]!, 0);
    const rest = [...files.weights.tensors.values()]
      .filter((t) => t.shape.length !== 2)
      .reduce((n, t) => n + t.bytes, 0);
    const rows = [...files.weights.tensors.values()]
      .filter((t) => t.shape.length === 2)
      .reduce((n, t) => n + t.shape[0]!, 0);
    expect(weightBytes(files.weights, 'int8')).toBe(parameters + 4 * rows + rest);
    expect(weightBytes(files.weights, 'fp8')).toBe(weightBytes(files.weights, 'int8'));
    expect(weightBytes(files.weights, 'int4')).toBeLessThan(weightBytes(files.weights, 'int8'));
    expect(weightBytes(files.weights, 'int4-g128')).toBeLessThan(weightBytes(files.weights, 'int4'));
    expect(weightBytes(files.weights, undefined)).toBe(files.weights.totalBytes);
  });

  it('refuses what it does not know, and matrices that are quantised already', async () => {
    const path = goldenGguf('llama-f16');
    await expect(load(path, { device: 'cpu', weights: 'int3' as 'int4' })).rejects.toThrow(
      /weights: expected 'int8', 'fp8', 'int4', 'int4-g128', or nothing to keep what the file has, got 'int3'/,
    );
    const quantised = await openModel(goldenGguf('qwen2-q4_1'));
    expect(() => weightBytes(quantised.weights, 'int8')).toThrow(
      /is q4_1 already, and weights: 'int8' quantises f32, f16 and bf16/,
    );
  });
});
