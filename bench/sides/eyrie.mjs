// Our side of `bench:decode`. Both sides export `open(job)`; see bench/trial.mjs.
import { median } from '../report.mjs';

/** @param {import('../trial.mjs').Job} job */
export async function open(job) {
  const started = performance.now();
  const { load } = await import('../../dist/index.js');
  const imported = performance.now();
  const llm = await load(job.model, {
    threads: job.threads,
    contextLength: job.contextPerSequence,
    kvTokens: job.contextPerSequence * job.sequences,
    maxSequences: job.sequences,
    ...(job.level && { level: job.level }),
  });
  const loaded = performance.now();
  const { engine } = llm;
  /** Stats of the engine when the last `generate` had its first token. */
  let before = { ...engine.stats };
  let after = before;

  return {
    importMs: imported - started,
    loadMs: loaded - imported,
    kvBytes: engine.kvBytes,
    about: { level: llm.stream.name, threads: llm.stream.threads },
    encode: (text) => llm.tokenizer.encode(text),
    decode: (ids) => llm.tokenizer.decode(ids),

    /** Greedy; text is made and streamed along, as a user gets it. */
    async generate(ids, count, onToken) {
      let first = true;
      for await (const part of llm.complete(ids, { maxTokens: count, ignoreEos: true, temperature: 0 })) {
        onToken(part.id);
        if (first) before = { ...engine.stats };
        first = false;
      }
      after = { ...engine.stats };
    },

    /**
     * What a decoded token costs beside kernels: `token(count)` gives the ms of one token of `count` after a prompt of `length`, and takes
     * turns with as many steps without anybody who waits for them, so that a machine that changes its pace changes both.
     */
    async overhead(length, token) {
      const kernels = await queuedSteps(llm, length + TURN / 2);
      const turns = [];
      let [steps, host] = [0, 0];
      for (let i = 0; i < TURNS; i++) {
        const measure = {
          async tokenMs() {
            const ms = await token(TURN);
            steps += after.steps - before.steps;
            host += after.hostMs - before.hostMs;
            return ms;
          },
          kernelMs: () => kernels.run(TURN),
        };
        const turn = {};
        for (const name of i % 2 ? ['kernelMs', 'tokenMs'] : ['tokenMs', 'kernelMs'])
          turn[name] = await measure[name]();
        turns.push(turn);
      }
      const { stream } = llm;
      const [waitsBefore, started] = [stream.waits, performance.now()];
      const counted = 2 * TURN;
      await kernels.run(counted);
      const [waitsAfter, ran] = [stream.waits, performance.now() - started];
      const waited = (name) => (waitsAfter[name] - waitsBefore[name]) / counted;
      kernels.dispose();
      const of = (f) => median(turns.map(f));
      return {
        tokenMs: of((t) => t.tokenMs),
        kernelMs: of((t) => t.kernelMs),
        share: of((t) => 1 - t.kernelMs / t.tokenMs),
        hostMs: host / steps,
        // Counting takes part in the time, so it has a turn of its own.
        waits: {
          launches: waited('launches'),
          barriers: waited('barriers'),
          share: (waited('ms') * counted) / ran,
        },
      };
    },
    dispose: () => llm.dispose(),
  };
}

/** Tokens of a turn, and turns, of the measurement of overhead. */
const TURN = 40;
const TURNS = 9;

/**
 * Decode steps at `position` that are queued one behind the other and that nobody waits for: what remains when neither JavaScript
 * nor the way to it takes part. Uses the engine's own parts, not its API. `run` gives ms of a step.
 */
async function queuedSteps(llm, position) {
  const { BlockPool, BlockTable, ModelRunner, resolveSampling, Sampler, Sequence } = await import(
    '../../dist/internals.js'
  );
  const { model, options } = llm.engine;
  const c = model.config;
  const pageSize = options.pageSize ?? 32;
  const pages = Math.ceil(options.contextLength / pageSize);
  const group = {
    layers: c.layers.length,
    kvHeads: c.kvHeads,
    headDim: c.headDim,
    pageSize,
    pages,
    dtype: options.kvDtype,
  };
  const runner = new ModelRunner(model, group, options.contextLength);
  const sampler = new Sampler(model.stream, c.vocabSize);
  const params = resolveSampling({ temperature: 0 }, c.vocabSize);
  const sequence = new Sequence({
    ids: Array(position + 1).fill(100),
    promptLength: position + 1,
    params,
    maxTokens: 1,
    stopIds: new Set(),
    controller: null,
    table: new BlockTable(new BlockPool(pages), pageSize),
  });
  sequence.table.prepare(0, position + 1);
  sequence.numComputed = position;
  const run = async (steps) => {
    const start = performance.now();
    let last;
    for (let i = 0; i < steps; i++) {
      const logits = runner.step([{ sequence, start: position, count: 1 }], [[0]]);
      last = sampler.draw(logits, [{ params, position, countsRow: -1 }], null).drawn;
    }
    await last;
    return (performance.now() - start) / steps;
  };
  await run(4); // a shape's third step records its graph
  const dispose = () => {
    sampler.dispose();
    runner.dispose();
  };
  return { run, dispose };
}
