// The peer's side of `bench:decode`, as fast as its API allows: no GPU probing, no build, no text made of the tokens, threads
// fixed to the number both sides get, one sequence of the context for each text (a batch goes out at once when all of them have
// queued a token).
import { pathToFileURL } from 'node:url';

/** @param {import('../trial.mjs').Job} job */
export async function open(job) {
  const started = performance.now();
  const { getLlama, LlamaLogLevel } = await import(pathToFileURL(job.peerEntry).href);
  const imported = performance.now();
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    logLevel: LlamaLogLevel.error,
    maxThreads: job.threads,
  });
  const model = await llama.loadModel({ modelPath: job.model });
  const context = await model.createContext({
    sequences: job.sequences,
    contextSize: job.contextPerSequence,
    batchSize: 512,
    threads: job.threads,
    flashAttention: job.flashAttention,
  });
  const free = Array.from({ length: job.sequences }, () => context.getSequence());
  const loaded = performance.now();

  return {
    importMs: imported - started,
    loadMs: loaded - imported,
    kvBytes: null,
    about: { llamaCpp: llama.llamaCppRelease?.release ?? null, threads: context.currentThreads },

    /** Greedy: `evaluate` samples at temperature 0. */
    async generate(ids, count, onToken) {
      const sequence = free.pop();
      await sequence.clearHistory();
      let left = count;
      for await (const token of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
        onToken(token);
        if (--left === 0) break;
      }
      free.push(sequence);
    },
    async dispose() {
      await context.dispose();
      await model.dispose();
      await llama.dispose();
    },
  };
}
