import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Drawn, SamplingParams } from '../../lib/sampling/index.ts';
import { ids, makeEngine, run } from '../helpers/engine.ts';
import { Random } from '../helpers/random.ts';

const MODEL = 'qwen2';
const r = new Random(7);
const requests = Array.from(
  { length: 12 },
  (_, i): { prompt: number[]; sampling: SamplingParams; count: number } => ({
    prompt: [...r.integers(r.integer(1, 70), 5, 107)],
    sampling:
      i % 3 === 0
        ? { temperature: 0, logprobs: 3 }
        : {
            temperature: 0.5 + r.uniform(),
            topK: i % 2 ? 20 : 0,
            topP: i % 4 ? 0.9 : 1,
            minP: i % 5 ? 0 : 0.02,
            seed: 1000 + i,
            logprobs: 0,
            ...(i % 4 === 1 ? { repetitionPenalty: 1.3, presencePenalty: 0.2 } : {}),
          },
    count: r.integer(5, 30),
  }),
);

/** Each request alone, on one thread: what every other way of running must give, bit for bit. */
let alone: { id: number; logprob: number }[][];

beforeAll(async () => {
  const { engine, close } = await makeEngine(MODEL, { runAhead: false }, { threads: 1 });
  alone = [];
  for (const q of requests) alone.push(await run(engine, q.prompt, q.sampling, q.count));
  await close();
});

describe('a request gives the same tokens and log-probabilities', () => {
  for (const [name, options, threads] of [
    ['in a batch', {}, 1],
    ['in a batch on several threads', {}, 3],
    ['with its prompt computed in chunks of 5 tokens', { maxBatchTokens: 5 }, 2],
    ['three at a time, the others waiting', { maxSequences: 3 }, 2],
    ['while the cache is short', { kvTokens: 160 }, 2],
    ['with pages of 16 tokens', { pageSize: 16 }, 2],
    ['with pages of 64 tokens', { pageSize: 64 }, 2],
    ['with steps that run ahead', { runAhead: true }, 2],
    ['with steps that run ahead, two at a time', { runAhead: true, maxSequences: 2 }, 1],
    ['with steps that run ahead in a short cache', { runAhead: true, kvTokens: 160, maxBatchTokens: 9 }, 2],
  ] as const) {
    it(name, async () => {
      const { engine, close } = await makeEngine(MODEL, options, { threads });
      const order = new Random(3).permutation(requests.length);
      const got = new Map<number, unknown>();
      await Promise.all(
        order.map(async (i) => {
          const q = requests[i]!;
          got.set(i, await run(engine, q.prompt, q.sampling, q.count));
        }),
      );
      for (const [i, want] of alone.entries()) expect(got.get(i), `request ${i}`).toEqual(want);
      expect(engine.freePages).toBe(engine.pages);
      await close();
    });
  }
});

describe.each([false, true])('random schedules, runAhead %s', (runAhead) => {
  let ctx: Awaited<ReturnType<typeof makeEngine>>;
  beforeAll(async () => {
    ctx = await makeEngine(MODEL, { kvTokens: 512, maxSequences: 5, maxBatchTokens: 24, runAhead });
  });
  afterAll(() => ctx.close());

  it('aborts, late arrivals and forks never change a text, and every page comes back', async () => {
    const random = new Random(11);
    for (let round = 0; round < 6; round++) {
      const jobs = requests.map(async (q, i) => {
        await new Promise((resolve) => setTimeout(resolve, random.integer(0, 8)));
        const victim = i % 4 === 3;
        const drawn: Drawn[] = [];
        const controller = {
          accept: (t: Drawn) => {
            drawn.push(t);
            return null;
          },
          finish: () => done(),
        };
        let done: () => void = () => {};
        const finished = new Promise<void>((resolve) => {
          done = resolve;
        });
        const s = ctx.engine.submit(q.prompt, {
          sampling: q.sampling,
          maxTokens: q.count,
          stopIds: new Set(),
          controller,
        });
        if (victim) setTimeout(() => ctx.engine.abort(s), random.integer(0, 12));
        await finished;
        if (victim) expect(alone[i]!.slice(0, drawn.length)).toEqual(drawn);
        else expect(drawn).toEqual(alone[i]);
      });
      await Promise.all(jobs);
      expect(ctx.engine.freePages).toBe(ctx.engine.pages);
    }
  });

  it('a fork goes on from shared pages as the sequence itself would', async () => {
    const q = requests[0]!;
    const forks: Promise<number[]>[] = [];
    const { engine } = ctx;
    const parent: number[] = [];
    await new Promise<void>((resolve, reject) => {
      const s = engine.submit(q.prompt, {
        sampling: { temperature: 0 },
        maxTokens: q.count,
        stopIds: new Set(),
        controller: {
          accept: (t) => {
            parent.push(t.id);
            if (parent.length % 3 === 0 && parent.length < q.count) {
              const start = [...parent];
              forks.push(
                new Promise((ok, bad) => {
                  const mine: number[] = [];
                  engine.fork(s, {
                    sampling: { temperature: 0 },
                    maxTokens: q.count - start.length,
                    stopIds: new Set(),
                    controller: {
                      accept: (x) => {
                        mine.push(x.id);
                        return null;
                      },
                      finish: (_, e) => (e ? bad(e) : ok([...start, ...mine])),
                    },
                  });
                }),
              );
            }
            return null;
          },
          finish: (_, e) => (e ? reject(e) : resolve()),
        },
      });
    });
    expect(parent).toEqual(ids(alone[0] as never));
    expect(forks.length).toBeGreaterThan(1);
    for (const f of await Promise.all(forks)) expect(f).toEqual(parent);
    expect(engine.freePages).toBe(engine.pages);
  });
});

describe('a step that runs ahead', () => {
  it('gives its tokens without waiting, and repeats nothing', async () => {
    const { engine, close } = await makeEngine(MODEL, { runAhead: true });
    const got = await run(engine, requests[0]!.prompt, requests[0]!.sampling, requests[0]!.count);
    expect(got).toEqual(alone[0]);
    // One step for each token (the prompt fits one step); the last one knows that it is.
    expect(engine.stats.steps).toBe(requests[0]!.count + Math.ceil(requests[0]!.prompt.length / 64) - 1);
    await close();
  });

  it('computes one row for nothing when a stop token ends a sequence', async () => {
    const { engine, close } = await makeEngine(MODEL, { runAhead: true });
    const stop = alone[0]![3]!.id;
    const first = alone[0]!.findIndex((t) => t.id === stop);
    const ids = await new Promise<number[]>((resolve, reject) => {
      const drawn: number[] = [];
      engine.submit(requests[0]!.prompt, {
        sampling: { temperature: 0 },
        maxTokens: 30,
        stopIds: new Set([stop]),
        controller: {
          accept: (t) => {
            drawn.push(t.id);
            return null;
          },
          finish: (_, error) => (error ? reject(error) : resolve(drawn)),
        },
      });
    });
    expect(ids).toEqual(alone[0]!.slice(0, first + 1).map((t) => t.id));
    expect(engine.freePages).toBe(engine.pages);
    // The pages are free while the last row is still on its way; whoever takes them comes behind it.
    const again = await Promise.all(requests.map((q) => run(engine, q.prompt, q.sampling, q.count)));
    expect(again).toEqual(alone);
    await close();
  });

  it('fails alone for a sequence without a token to draw', async () => {
    const { engine, close } = await makeEngine(MODEL, { runAhead: true });
    const q = requests[3]!;
    // Over the temperature, its only token has a score of -infinity.
    const bad = run(engine, [5], { allowedIds: [7], logitBias: { 7: -3.4e38 }, temperature: 0.01 }, 5);
    const good = run(engine, q.prompt, q.sampling, q.count);
    await expect(bad).rejects.toMatchObject({ code: 'EYRIE_EXECUTION' });
    expect(await good).toEqual(alone[3]);
    await close();
  });

  it('may be under way when the engine is closed', async () => {
    const { engine, close } = await makeEngine(MODEL, { runAhead: true });
    const running = run(engine, requests[0]!.prompt, requests[0]!.sampling, 60);
    await new Promise((resolve) => setTimeout(resolve, 5));
    const closed = close();
    await expect(running).rejects.toMatchObject({ code: 'EYRIE_ABORTED' });
    await closed;
  });
});
