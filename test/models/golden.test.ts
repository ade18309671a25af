import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Engine, Evaluator } from '../../lib/engine/index.ts';
import { type LlamaModel, loadWeights, openModel } from '../../lib/models/index.ts';
import type { Stream } from '../../lib/tensor/index.ts';
import { another, backends } from '../helpers/describe-op.ts';
import { goldens } from '../helpers/golden.ts';

/** Greedy continuation through the engine, ids only. */
function greedy(engine: Engine, prompt: number[], count: number): Promise<number[]> {
  const ids: number[] = [];
  return new Promise((resolve, reject) => {
    engine.submit(prompt, {
      sampling: { temperature: 0 },
      maxTokens: count,
      stopIds: new Set(),
      controller: {
        accept: (t) => {
          ids.push(t.id);
          return null;
        },
        finish: (_, error) => (error ? reject(error) : resolve(ids)),
      },
    });
  });
}

for (const backend of backends) {
  // Formats that only the CPU has.
  const here = goldens().filter(({ name }) => !(backend.cuda && name.includes('kquants')));
  describe.each(here)(`$name equals transformers (${backend.name})`, ({ path, golden }) => {
    let stream: Stream;
    let model: LlamaModel;

    beforeAll(async () => {
      stream = another(backend, 2);
      model = await loadWeights(await openModel(path), stream, { activations: 'f32', positions: 128 });
    });
    afterAll(() => {
      model.dispose();
      stream.dispose();
    });

    it('in its logits, at every position of a prompt fed in chunks', async () => {
      for (const chunk of [7, 64]) {
        const evaluator = new Evaluator(model, { length: 128, kvDtype: 'f32', chunk });
        for (const p of golden.prompts) {
          const got = await evaluator.logits(
            p.promptIds,
            p.logits.map((l) => l.position),
          );
          for (const l of p.logits) {
            const ours = got.get(l.position)!;
            let worst = 0;
            for (const [i, v] of l.values.entries()) worst = Math.max(worst, Math.abs(v - ours[i]!));
            expect(
              worst / golden.logitStd,
              `position ${l.position}: largest error over the spread of the logits`,
            ).toBeLessThan(1e-4);
          }
        }
        evaluator.dispose();
      }
    });

    it('in its greedy text, all prompts in one batch', async () => {
      const engine = new Engine(model, {
        contextLength: 128,
        kvTokens: 256,
        kvDtype: 'f32',
        maxBatchTokens: 32,
        maxSequences: 4,
      });
      const texts = await Promise.all(
        golden.prompts.map((p) => greedy(engine, p.promptIds, p.greedyIds.length)),
      );
      expect(texts).toEqual(golden.prompts.map((p) => p.greedyIds));
      await engine.close();
      expect(engine.freePages).toBe(engine.pages);
    });
  });
}
