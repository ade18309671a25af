import { monitorEventLoopDelay } from 'node:perf_hooks';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LLM, load } from '../../lib/engine/index.ts';
import { native } from '../../lib/native/load.ts';
import { goldenGguf } from '../helpers/engine.ts';

describe.each([false, true])('LLM, runAhead %s', (runAhead) => {
  let llm: LLM;
  const progress: { stage: string; done: number; total: number }[] = [];
  beforeAll(async () => {
    llm = await load(goldenGguf('llama-q8_0'), {
      threads: 2,
      runAhead,
      onProgress: (p) => progress.push(p),
    });
  });
  afterAll(() => llm.dispose());

  it('reports progress up to the whole file and what it allocates', () => {
    expect(progress.at(-1)).toMatchObject({ stage: 'ready' });
    expect(progress.every((p, i) => i === 0 || p.done >= progress[i - 1]!.done)).toBe(true);
    expect(progress.at(-1)!.done).toBe(progress.at(-1)!.total);
    expect(llm.memory.total).toBe(llm.memory.weights + llm.memory.kv + llm.memory.workspace);
  });

  it('streams parts that join to the result', async () => {
    const g = llm.complete('hello world', { maxTokens: 20, ignoreEos: true });
    let text = '';
    for await (const part of g) text += part.text;
    const r = await g.result();
    expect(text).toBe(r.text);
    expect(r.ids.length).toBe(20);
    expect(r.finishReason).toBe('length');
    expect(r.promptIds).toEqual(await llm.tokenizer.encode('hello world'));
    expect(r.timings.firstTokenMs).toBeGreaterThan(0);
  });

  it('is reproducible by seed, and differs between seeds', async () => {
    const go = (seed: number) =>
      llm.complete('abc', { maxTokens: 24, temperature: 1.5, seed, ignoreEos: true }).result();
    const [a, b, c] = await Promise.all([go(1), go(1), go(2)]);
    expect(a.ids).toEqual(b.ids);
    expect(a.ids).not.toEqual(c.ids);
  });

  it('ends at a stop string, which is not part of the text, and never shows half of one', async () => {
    const free = await llm.complete('abc', { maxTokens: 30, temperature: 0, ignoreEos: true }).result();
    const stop = free.text.slice(5, 9);
    const g = llm.complete('abc', { maxTokens: 30, temperature: 0, ignoreEos: true, stop });
    let seen = '';
    for await (const p of g) {
      seen += p.text;
      expect(free.text.indexOf(stop)).toBeGreaterThanOrEqual(seen.length);
    }
    const r = await g.result();
    expect(r.text).toBe(free.text.slice(0, free.text.indexOf(stop)));
    expect(r.finishReason).toBe('stop');
    expect(r.ids.length).toBeLessThan(30);
  });

  it('ends at stop ids and at the forced bias', async () => {
    const r = await llm
      .complete('abc', { maxTokens: 10, temperature: 0, logitBias: { 65: 1000 }, ignoreEos: true })
      .result();
    expect(r.ids).toEqual(Array(10).fill(65));
    const s = await llm
      .complete('abc', { maxTokens: 10, temperature: 0, logitBias: { 65: 1000 }, stopIds: [65] })
      .result();
    expect(s).toMatchObject({ ids: [65], finishReason: 'stop', text: '' });
    const only = await llm
      .complete('abc', { maxTokens: 12, temperature: 100, allowedIds: [70, 71], ignoreEos: true, seed: 4 })
      .result();
    expect(new Set(only.ids)).toEqual(new Set([70, 71]));
  });

  it('never draws a token with a bias of -Infinity, nor another than one with a huge bias', async () => {
    const go = (logitBias: Record<number, number>) =>
      llm.complete('abc', { maxTokens: 4, temperature: 0, logitBias, ignoreEos: true }).result();
    const free = await go({});
    const other = await go(Object.fromEntries(free.ids.map((id) => [id, Number.NEGATIVE_INFINITY])));
    expect(other.ids).toHaveLength(4);
    for (const id of free.ids) expect(other.ids).not.toContain(id);
    expect((await go({ 65: 1e300 })).ids).toEqual([65, 65, 65, 65]);
  });

  it('gives log-probabilities that the evaluator confirms', async () => {
    const g = llm.complete('some text', { maxTokens: 8, temperature: 0, logprobs: 4, ignoreEos: true });
    const parts = [];
    for await (const p of g) parts.push(p);
    const r = await g.result();
    const e = llm.evaluator({ length: 64 });
    const scores = await e.score([...r.promptIds, ...r.ids]);
    e.dispose();
    for (const [i, lp] of r.choices[0]!.logprobs.entries())
      expect(lp).toBe(scores[r.promptIds.length - 1 + i]);
    for (const p of parts.filter((x) => x.id >= 0)) {
      expect(p.top.length).toBe(4);
      expect(p.top[0]).toEqual({ id: p.id, logprob: p.logprob });
      expect(p.top.every((t, i) => i === 0 || t.logprob <= p.top[i - 1]!.logprob)).toBe(true);
    }
  });

  it('makes n choices that equal n runs with seeds in a row', async () => {
    const prompt = 'the quick brown fox jumps over the lazy dog, again and again';
    const many = await llm
      .complete(prompt, { n: 4, maxTokens: 12, temperature: 1, seed: 50, ignoreEos: true })
      .result();
    expect(many.choices.map((c) => c.index)).toEqual([0, 1, 2, 3]);
    for (const [i, c] of many.choices.entries()) {
      const one = await llm
        .complete(prompt, { maxTokens: 12, temperature: 1, seed: 50 + i, ignoreEos: true })
        .result();
      expect(c.ids).toEqual(one.ids);
    }
    expect(llm.engine.freePages).toBe(llm.engine.pages);
  });

  it('frees its pages when its signal aborts, when the loop is left, and before it starts', async () => {
    const aborter = new AbortController();
    const g = llm.complete('abc', { maxTokens: 100, ignoreEos: true, signal: aborter.signal });
    let n = 0;
    for await (const _ of g) if (++n === 3) aborter.abort();
    expect((await g.result()).finishReason).toBe('abort');
    for await (const _ of llm.complete('abc', { maxTokens: 100, ignoreEos: true })) break;
    const early = await llm.complete('abc', { maxTokens: 100, signal: AbortSignal.abort() }).result();
    expect(early).toMatchObject({ finishReason: 'abort', ids: [] });
    const many = await llm.complete('abc', { n: 3, maxTokens: 100, signal: AbortSignal.abort() }).result();
    expect(many.choices.map((c) => c.finishReason)).toEqual(['abort', 'abort', 'abort']);
    await expect.poll(() => llm.engine.freePages, { timeout: 10_000 }).toBe(llm.engine.pages);
  });

  it('starts what is submitted the moment another generation ends', async () => {
    for (let i = 0; i < 20; i++) {
      const r = await llm.complete([65, 66, 67], { maxTokens: 1, ignoreEos: true }).result();
      expect(r.ids.length).toBe(1);
    }
  });

  it('chats through the template of the file', async () => {
    const r = await llm.chat([{ role: 'user', content: 'hi' }], { maxTokens: 4, temperature: 0 }).result();
    const rendered = await llm.render([{ role: 'user', content: 'hi' }]);
    expect(rendered).toContain('hi');
    expect(r.promptIds).toEqual(await llm.tokenizer.encode(rendered, { bos: false }));
  });

  it.each([
    [
      'a prompt longer than the context',
      (m: LLM) => m.complete(new Array(600).fill(65)),
      'EYRIE_CONTEXT_LENGTH',
    ],
    ['an empty prompt', (m: LLM) => m.complete([]), 'EYRIE_INVALID_ARGUMENT'],
    ['an id outside the vocabulary', (m: LLM) => m.complete([99_999]), 'EYRIE_INVALID_ARGUMENT'],
    ['a prompt that is no text', (m: LLM) => m.complete(5 as never), 'EYRIE_INVALID_ARGUMENT'],
    ['a negative temperature', (m: LLM) => m.complete('a', { temperature: -1 }), 'EYRIE_INVALID_ARGUMENT'],
    ['a NaN temperature', (m: LLM) => m.complete('a', { temperature: Number.NaN }), 'EYRIE_INVALID_ARGUMENT'],
    ['topP 0', (m: LLM) => m.complete('a', { topP: 0 }), 'EYRIE_INVALID_ARGUMENT'],
    ['topP above 1', (m: LLM) => m.complete('a', { topP: 1.1 }), 'EYRIE_INVALID_ARGUMENT'],
    ['a fractional topK', (m: LLM) => m.complete('a', { topK: 1.5 }), 'EYRIE_INVALID_ARGUMENT'],
    ['a fractional seed', (m: LLM) => m.complete('a', { seed: 0.5 }), 'EYRIE_INVALID_ARGUMENT'],
    ['maxTokens 0', (m: LLM) => m.complete('a', { maxTokens: 0 }), 'EYRIE_INVALID_ARGUMENT'],
    ['n 0', (m: LLM) => m.complete('a', { n: 0 }), 'EYRIE_INVALID_ARGUMENT'],
    [
      'a bias for an unknown id',
      (m: LLM) => m.complete('a', { logitBias: { 99999: 1 } }),
      'EYRIE_INVALID_ARGUMENT',
    ],
    ['too many logprobs', (m: LLM) => m.complete('a', { logprobs: 1000 }), 'EYRIE_INVALID_ARGUMENT'],
    ['no allowed id', (m: LLM) => m.complete('a', { allowedIds: [] }), 'EYRIE_INVALID_ARGUMENT'],
  ])('refuses %s', async (_, go, code) => {
    await expect(go(llm).result()).rejects.toMatchObject({ name: 'EyrieError', code });
    await expect(
      (async () => {
        for await (const _part of go(llm));
      })(),
    ).rejects.toMatchObject({ code });
  });
});

describe('load', () => {
  it.each([
    ['a path that is not there', '/nowhere/model.gguf', {}, 'EYRIE_FILE'],
    [
      'a context beyond the model',
      goldenGguf('llama-q8_0'),
      { contextLength: 100_000 },
      'EYRIE_INVALID_ARGUMENT',
    ],
    ['more memory than there is', goldenGguf('llama-q8_0'), { kvTokens: 2 ** 40 }, 'EYRIE_OUT_OF_MEMORY'],
    ['a device that is not there', goldenGguf('llama-q8_0'), { device: 'cuda:99' }, 'EYRIE_NO_DEVICE'],
    ['an unknown level', goldenGguf('llama-q8_0'), { level: 'mmx' }, 'EYRIE_NO_DEVICE'],
    ['no threads', goldenGguf('llama-q8_0'), { threads: 0 }, 'EYRIE_INVALID_ARGUMENT'],
    [
      'unknown activations',
      goldenGguf('llama-q8_0'),
      { activations: 'int8' as never },
      'EYRIE_INVALID_ARGUMENT',
    ],
  ])('refuses %s', async (_, path, options, code) => {
    const before = native().memory();
    await expect(load(path, options)).rejects.toMatchObject({ code });
    expect(native().memory()).toMatchObject({ tensors: before.tensors, streams: before.streams });
  });

  it('says how much memory is missing', async () => {
    await expect(load(goldenGguf('llama-q8_0'), { kvTokens: 2 ** 40 })).rejects.toThrow(
      /KV cache .* are available; lower/,
    );
  });

  it('leaves no tensor and no stream behind', async () => {
    const before = native().memory();
    for (let i = 0; i < 3; i++) {
      const llm = await load(goldenGguf('qwen3-q4_0'));
      await llm.complete('abc', { maxTokens: 5, n: 2, repetitionPenalty: 1.1 }).result();
      await llm.dispose();
    }
    expect(native().memory()).toMatchObject({ tensors: before.tensors, streams: before.streams });
  });

  it('ends running generations with EYRIE_ABORTED when it is disposed', async () => {
    const llm = await load(goldenGguf('qwen3-q4_0'));
    const g = llm.complete('abc', { maxTokens: 400, ignoreEos: true });
    await new Promise((resolve) => setTimeout(resolve, 5));
    await llm.dispose();
    await expect(g.result()).rejects.toMatchObject({ code: 'EYRIE_ABORTED' });
    await expect(llm.complete('abc').result()).rejects.toMatchObject({ code: 'EYRIE_DISPOSED' });
  });

  it('keeps the event loop free during a long prefill', async () => {
    const llm = await load(goldenGguf('llama-f32'), { maxBatchTokens: 512, threads: 1 });
    const delay = monitorEventLoopDelay({ resolution: 1 });
    const prompt = Array.from({ length: 500 }, (_, i) => 40 + (i % 50));
    await llm.complete(prompt, { maxTokens: 1 }).result(); // buffers are made
    delay.enable();
    const started = performance.now();
    await Promise.all(Array.from({ length: 8 }, () => llm.complete(prompt, { maxTokens: 1 }).result()));
    const took = performance.now() - started;
    delay.disable();
    // A kernel on this thread would block it for a whole step; waiting for a busy core is all that may be seen.
    expect(delay.max / 1e6).toBeLessThan(Math.max(60, took / 4));
    await llm.dispose();
  });
});
