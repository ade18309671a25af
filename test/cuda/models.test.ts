// Whole models on CUDA devices (a GPU, or the emulation) with the default arithmetic: beside the CPU, and beside themselves.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Evaluator } from '../../lib/engine/index.ts';
import { load } from '../../lib/index.ts';
import { loadWeights, openModel } from '../../lib/models/index.ts';
import { packWeight, Stream, Tensor } from '../../lib/ops/index.ts';
import type { SamplingParams } from '../../lib/sampling/index.ts';
import { backends } from '../helpers/describe-op.ts';
import { goldenGguf, ids, makeEngine, run } from '../helpers/engine.ts';
import { Random } from '../helpers/random.ts';

const devices = backends.filter((b) => b.cuda).map((b) => b.device);
if (devices.length === 0)
  it.skip('no GPU is here, and this addon does not emulate one (npm run test:emulated)', () => {});

async function logitsOf(stream: Stream, path: string, prompt: number[], kvDtype: 'f16' | 'bf16') {
  const model = await loadWeights(await openModel(path), stream, { activations: 'auto', positions: 128 });
  const evaluator = new Evaluator(model, { length: 128, kvDtype, chunk: 32 });
  const got = await evaluator.logits(prompt, [0, 1, 30, prompt.length - 1]);
  evaluator.dispose();
  model.dispose();
  return got;
}

for (const device of devices) {
  describe(`default arithmetic on ${device}`, () => {
    let gpu: Stream;
    let cpu: Stream;
    beforeAll(() => {
      gpu = new Stream({ device });
      cpu = new Stream({ threads: 2 });
    });
    afterAll(() => {
      gpu.dispose();
      cpu.dispose();
    });

    for (const name of ['llama-q8_0', 'llama-q4_0', 'llama-f16', 'qwen2-bf16', 'qwen3-q8_0']) {
      it(`${name}: the logits of the CPU within the noise of 16-bit caches`, async () => {
        const prompt = [...new Random(5).integers(60, 5, 200)];
        for (const kvDtype of ['f16', 'bf16'] as const) {
          const want = await logitsOf(cpu, goldenGguf(name), prompt, kvDtype);
          const got = await logitsOf(gpu, goldenGguf(name), prompt, kvDtype);
          for (const [position, a] of want) {
            const b = got.get(position)!;
            let error = 0;
            let spread = 0;
            const mean = a.reduce((s, v) => s + v, 0) / a.length;
            for (const [i, v] of a.entries()) {
              error += (v - b[i]!) ** 2;
              spread += (v - mean) ** 2;
            }
            expect(Math.sqrt(error / spread), `${kvDtype} position ${position}`).toBeLessThan(
              kvDtype === 'f16' ? 0.01 : 0.03,
            );
          }
        }
      });
    }
  });

  it(`refuses on ${device} what only the CPU has`, async () => {
    await expect(load(goldenGguf('llama-kquants'), { device })).rejects.toMatchObject({
      code: 'EYRIE_UNSUPPORTED',
      message: expect.stringMatching(
        /tensor "token_embd.weight" is q4_k, which device \S+ has no kernel for yet/,
      ),
    });
    const stream = new Stream({ device });
    using src = Tensor.from(stream, 'u8', [144], new Uint8Array(144));
    expect(() => packWeight(src, 'q4_k', [1, 256])).toThrow(
      expect.objectContaining({ code: 'EYRIE_UNSUPPORTED', message: expect.stringMatching(/out is q4_k/) }),
    );
    stream.dispose();
  });

  describe(`a request on ${device} gives the same tokens and log-probabilities`, () => {
    const r = new Random(7);
    const requests = Array.from(
      { length: 6 },
      (_, i): { prompt: number[]; sampling: SamplingParams; count: number } => ({
        prompt: [...r.integers(r.integer(1, 70), 5, 107)],
        sampling:
          i % 3 === 0
            ? { temperature: 0, logprobs: 3 }
            : {
                temperature: 0.5 + r.uniform(),
                topK: i % 2 ? 20 : 0,
                topP: i % 4 ? 0.9 : 1,
                seed: 1000 + i,
                ...(i % 4 === 1 ? { repetitionPenalty: 1.3, presencePenalty: 0.2 } : {}),
              },
        count: r.integer(4, 12),
      }),
    );
    for (const model of ['qwen2', 'llama32']) {
      let alone: { id: number; logprob: number }[][];
      beforeAll(async () => {
        const { engine, close } = await makeEngine(model, {}, { device });
        alone = [];
        for (const q of requests) alone.push(await run(engine, q.prompt, q.sampling, q.count));
        await close();
      }, 120_000);
      for (const [name, options] of [
        ['in a batch', {}],
        ['with its prompt computed in chunks of 5 tokens', { maxBatchTokens: 5 }],
        ['with pages of 16 tokens', { pageSize: 16 }],
        ['with pages of 64 tokens', { pageSize: 64 }],
      ] as const) {
        it(`${model}: ${name}`, async () => {
          const { engine, close } = await makeEngine(model, options, { device });
          const got = await Promise.all(requests.map((q) => run(engine, q.prompt, q.sampling, q.count)));
          for (const [i, want] of alone.entries()) expect(got[i], `request ${i}`).toEqual(want);
          await close();
        });
      }
    }

    it('and the greedy tokens of the CPU', async () => {
      const onGpu = await makeEngine('llama32', {}, { device });
      const onCpu = await makeEngine('llama32', {}, { threads: 2 });
      for (const seed of [1, 2, 3]) {
        const prompt = [...new Random(seed).integers(20, 5, 107)];
        const [a, b] = await Promise.all(
          [onGpu, onCpu].map((e) => run(e.engine, prompt, { temperature: 0 }, 12)),
        );
        expect(ids(a!)).toEqual(ids(b!));
      }
      await onGpu.close();
      await onCpu.close();
    });
  });
}
