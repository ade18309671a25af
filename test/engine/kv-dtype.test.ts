// What a cache of 8 bits costs and does not cost: logits near those of an f32 cache, the same bits in any company.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Evaluator } from '../../lib/engine/index.ts';
import { KV_DTYPES, type KvDType } from '../../lib/kv/dtype.ts';
import { type LlamaModel, loadWeights, openModel } from '../../lib/models/index.ts';
import type { SamplingParams } from '../../lib/sampling/index.ts';
import type { Stream } from '../../lib/tensor/index.ts';
import { another, backends, streamOptions } from '../helpers/describe-op.ts';
import { goldenModel, ids, makeEngine, run } from '../helpers/engine.ts';
import { distance } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';

/** Of the logits, relative to their norm: what a cache of the type may add. Random weights make the most of it; the exact tests are those of the ops. */
const ALLOWED: Record<KvDType, number> = { f32: 0, f16: 2e-3, bf16: 1.2e-2, f8_e4m3: 0.4, i8: 5e-2 };

for (const backend of backends) {
  describe(`caches of every type on ${backend.name}`, () => {
    for (const name of ['llama32', 'qwen2', 'qwen3']) {
      let stream: Stream;
      let model: LlamaModel;
      beforeAll(async () => {
        stream = another(backend, 2);
        model = await loadWeights(await openModel(goldenModel(name)), stream, {
          activations: 'f32',
          positions: 200,
        });
      });
      afterAll(() => {
        model.dispose();
        stream.dispose();
      });

      it(`${name}: logits near those of an f32 cache`, async () => {
        const prompt = [...new Random(3).integers(150, 5, 100)];
        const at = [0, 1, 31, 32, 100, 128, 149];
        const logits = async (kvDtype: KvDType) => {
          const evaluator = new Evaluator(model, { length: 160, kvDtype, chunk: 48 });
          const got = await evaluator.logits(prompt, at);
          evaluator.dispose();
          return got;
        };
        const want = await logits('f32');
        for (const type of KV_DTYPES) {
          const got = await logits(type);
          for (const p of at) {
            const { relative } = distance(got.get(p)!, want.get(p)!);
            expect(relative, `${type} at ${p}`).toBeLessThanOrEqual(ALLOWED[type]);
            // It is this cache that was used: nothing but f32 keeps everything.
            if (type !== 'f32') expect(relative, `${type} at ${p}`).toBeGreaterThan(0);
          }
        }
      });
    }

    it.each(['f8_e4m3', 'i8'] as const)(
      '%s: a request has the same tokens alone and among others',
      async (kvDtype) => {
        const r = new Random(9);
        const requests = Array.from(
          { length: 5 },
          (_, i): { prompt: number[]; sampling: SamplingParams } => ({
            prompt: [...r.integers([1, 15, 33, 64, 40][i]!, 5, 100)],
            sampling: i % 2 ? { temperature: 0.9, seed: i } : { temperature: 0, logprobs: 2 },
          }),
        );
        const alone = await makeEngine('llama32', { kvDtype }, streamOptions(backend, 2));
        const want = [];
        for (const q of requests) want.push(await run(alone.engine, q.prompt, q.sampling, 8));
        await alone.close();
        for (const options of [{}, { maxBatchTokens: 7 }, { pageSize: 16 }]) {
          const together = await makeEngine('llama32', { kvDtype, ...options }, streamOptions(backend, 2));
          const got = await Promise.all(requests.map((q) => run(together.engine, q.prompt, q.sampling, 8)));
          expect(got).toEqual(want);
          await together.close();
        }
      },
    );

    it('i8: the greedy text of an f32 cache', async () => {
      for (const seed of [1, 2]) {
        const prompt = [...new Random(seed).integers(30, 5, 100)];
        const texts = [];
        for (const kvDtype of ['f32', 'i8'] as const) {
          const { engine, close } = await makeEngine('llama32', { kvDtype }, streamOptions(backend, 2));
          texts.push(ids(await run(engine, prompt, { temperature: 0 }, 8)));
          await close();
        }
        expect(texts[1]).toEqual(texts[0]);
      }
    });
  });
}
