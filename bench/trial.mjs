// One trial of `bench:decode` in a process of its own: reads a job from stdin, prints its result as one line of JSON.
import { readFileSync } from 'node:fs';
import { median } from './report.mjs';

/**
 * @typedef {object} Job
 * @property {'eyrie' | 'node-llama-cpp'} side
 * @property {'tokenise' | 'load' | 'prefill' | 'decode' | 'batch'} scenario
 * @property {string} model GGUF file
 * @property {number} threads
 * @property {string} [level] ours only
 * @property {string} [peerEntry] module of the peer
 * @property {boolean} [flashAttention] the peer's only
 * @property {number} sequences
 * @property {number} contextPerSequence
 * @property {number[][]} prompts token ids
 * @property {number} tokens to generate for each prompt
 * @property {string[]} [texts] to tokenise
 */

/** @type {Job} */
const job = JSON.parse(readFileSync(0, 'utf8'));
const { open } = await import(`./sides/${job.side}.mjs`);
const now = () => performance.now();

/** Peak resident memory of this process in bytes. */
function peakMemory() {
  try {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
  } catch {
    return process.resourceUsage().maxRSS * 1024;
  }
}

/** Generates and takes the times of the first and the last token. */
async function run(side, prompt, count) {
  const start = now();
  const ids = [];
  let first = 0;
  await side.generate(prompt, count, (id) => {
    first ||= now();
    ids.push(id);
  });
  return { ids, firstMs: first - start, restMs: now() - first };
}

const scenarios = {
  async tokenise(side) {
    return { ids: await Promise.all(job.texts.map((text) => side.encode(text))) };
  },

  /** From the import to the first token; the clock starts with the process's own modules loaded on both sides alike. */
  async load(side) {
    const { firstMs } = await run(side, job.prompts[0], 1);
    return { firstMs, totalMs: side.importMs + side.loadMs + firstMs };
  },

  /** The time of the first token after a long prompt; the second prompt shares nothing with the first, which warms up. */
  async prefill(side) {
    await run(side, job.prompts[1], 1);
    const samples = [];
    for (const prompt of job.prompts.slice(2)) samples.push((await run(side, prompt, 1)).firstMs);
    const firstMs = median(samples);
    return { firstMs, tokensPerSecond: (job.prompts[0].length / firstMs) * 1e3 };
  },

  async decode(side) {
    await run(side, job.prompts[1], 8);
    const { ids, firstMs, restMs } = await run(side, job.prompts[0], job.tokens);
    const peakBytes = peakMemory(); // before the measurement below, which takes a second cache
    const token = async (count) => (await run(side, job.prompts[0], count)).restMs / (count - 1);
    const overhead = side.overhead ? await side.overhead(job.prompts[0].length, token) : null;
    return {
      ids,
      peakBytes,
      firstMs,
      msPerToken: restMs / (job.tokens - 1),
      tokensPerSecond: ((job.tokens - 1) / restMs) * 1e3,
      overhead,
    };
  },

  /** All prompts at once; tokens of all sequences over the time from the start to the last token, prompts included. */
  async batch(side) {
    const together = (count) => Promise.all(job.prompts.map((prompt) => run(side, prompt, count)));
    await together(4);
    const start = now();
    const all = await together(job.tokens);
    return {
      tokensPerSecond: (all.reduce((n, r) => n + r.ids.length, 0) / (now() - start)) * 1e3,
      ids: all.map((r) => r.ids),
    };
  },
};

const side = await open(job);
const result = await scenarios[job.scenario](side);
const { importMs, loadMs, kvBytes, about } = side;
console.log(JSON.stringify({ peakBytes: peakMemory(), importMs, loadMs, kvBytes, about, ...result }));
// Not part of any figure; what a library does at its end must not hold the next trial up.
process.exit(0);
