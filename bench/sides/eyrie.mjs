// Our side of `bench:decode`. Both sides export `open(job)`; see bench/trial.mjs.

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

    /** Where the time of the last `generate` went after its first token. */
    async overhead(position) {
      const steps = after.steps - before.steps;
      const stepMs = (after.stepMs - before.stepMs) / steps;
      return {
        steps,
        stepMs,
        hostMs: (after.hostMs - before.hostMs) / steps,
        kernelMs: await kernelTime(llm, position),
      };
    },
    dispose: () => llm.dispose(),
  };
}

/**
 * ms of a decode step at `position` when steps are queued one behind the other and nobody waits for tokens: what remains when
 * neither JavaScript nor the way to it takes part. Uses the engine's own parts, not its API.
 */
async function kernelTime(llm, position) {
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
  const queue = async (steps) => {
    const start = performance.now();
    let last;
    for (let i = 0; i < steps; i++) {
      const logits = runner.step([{ sequence, start: position, count: 1 }], [[0]]);
      last = sampler.draw(logits, [{ params, position, countsRow: -1 }], null).drawn;
    }
    await last;
    return (performance.now() - start) / steps;
  };
  await queue(4); // a shape's third step records its graph
  const samples = [];
  for (let i = 0; i < 5; i++) samples.push(await queue(16));
  sampler.dispose();
  runner.dispose();
  return samples.sort((a, b) => a - b)[2];
}
