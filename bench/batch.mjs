// `npm run bench:batch`: sequences that are decoded together, beside llama.cpp's own batched bench and node-llama-cpp on the same file with the same threads, in turn.
//   node bench/batch.mjs [--model FILE.gguf | --shape 1B] [--formats Q4_1,Q8_0] [--sequences 1,4,16,32] [--threads N] [--level NAME] [--rounds N]
//     [--no-node-llama-cpp] [--json FILE] [--quick]
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { formatFiles } from './format-files.mjs';
import { buildLlamaCpp, llamaBatch } from './llama-cpp.mjs';
import { installPeer } from './peer.mjs';
import {
  inTurn,
  machine,
  ratio,
  root,
  slug,
  spread,
  summary,
  table,
  warnIfBusy,
  writeJson,
} from './report.mjs';
import { trial } from './run-trial.mjs';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string' },
    shape: { type: 'string' },
    formats: { type: 'string' },
    sequences: { type: 'string' },
    threads: { type: 'string' },
    level: { type: 'string' },
    rounds: { type: 'string' },
    'no-node-llama-cpp': { type: 'boolean', default: false },
    json: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
});
const host = machine();
const threads = Number(options.threads ?? Math.min(2, host.cores));
const rounds = Number(options.rounds ?? (options.quick ? 1 : 5));
const formats = (options.formats ?? (options.shape ? 'BF16,Q8_0,Q4_K_M' : 'BF16,Q8_0,Q4_1')).split(',');
const counts = (options.sequences ?? (options.quick ? '2' : '1,2,4,8,16,32')).split(',').map(Number);
const PROMPT = 8;
const TOKENS = options.quick ? 8 : options.shape ? 32 : 64;
const CONTEXT = 128; // of a sequence
const fail = (message) => {
  console.error(message);
  process.exit(1);
};
const peer = buildLlamaCpp();
if ('error' in peer) fail(`llama.cpp cannot be built: ${peer.error}`);
const node = options['no-node-llama-cpp'] ? { error: '' } : installPeer();
if ('error' in node && node.error) fail(`node-llama-cpp: ${node.error}`);
const files = await formatFiles(peer.folder, options, formats).catch((e) => fail(e.message));

/** Tokens a second of all sequences together, prompts of a few tokens included. */
async function together(side, format, sequences) {
  const prompts = Array.from({ length: sequences }, (_, p) =>
    Array.from({ length: PROMPT }, (_, i) => 100 + ((i * 131 + p * 977) % 20000)),
  );
  const result = await trial({
    side,
    scenario: 'batch',
    model: files.path(format),
    threads,
    level: options.level,
    peerEntry: node.entry,
    flashAttention: true,
    sequences,
    contextPerSequence: CONTEXT,
    prompts,
    tokens: TOKENS,
  });
  return { rate: result.tokensPerSecond, level: result.about.level };
}

console.log(
  `${files.name} on ${host.cpu}, ${threads} threads, Node ${host.node}, llama.cpp ${peer.commit}` +
    `${node.version ? `, node-llama-cpp ${node.version}` : ''}, ${rounds} rounds, ${host.date}`,
);
warnIfBusy(host);
const results = [];
let level = '';
for (const format of formats) {
  for (const sequences of counts) {
    const samples = { ours: [], llamaCpp: [], ...(node.entry && { nodeLlamaCpp: [] }) };
    const sides = [
      async () => {
        const found = await together('eyrie', format, sequences);
        level = found.level;
        samples.ours.push(found.rate);
      },
      async () => {
        const job = { model: files.path(format), threads, prompt: PROMPT, tokens: TOKENS, sequences };
        samples.llamaCpp.push(llamaBatch(peer.folder, job));
      },
      async () => {
        if (node.entry) samples.nodeLlamaCpp.push((await together('node-llama-cpp', format, sequences)).rate);
      },
    ];
    await inTurn(`${format}, ${sequences}`, rounds, sides);
    const of = Object.fromEntries(Object.entries(samples).map(([name, s]) => [name, summary(s)]));
    results.push({ format, sequences, ...of });
  }
}
console.log(
  `\nlevel ${level}; tokens/s of all sequences, median (min–max)\n\n${table(
    [
      ...['format', 'together', 'ours', 'llama-batched-bench', 'ratio'],
      ...(node.entry ? ['node-llama-cpp', 'ratio'] : []),
    ],
    results.map((r) => [
      ...[r.format, r.sequences, spread(r.ours), spread(r.llamaCpp), ratio(r.ours, r.llamaCpp)],
      ...(node.entry ? [spread(r.nodeLlamaCpp), ratio(r.ours, r.nodeLlamaCpp)] : []),
    ]),
  )}`,
);
console.log(
  `\n${TOKENS} tokens each after ${PROMPT}. llama-batched-bench computes logits of the decoded tokens, draws nothing and leaves prompts out of its time; the others include sampling, and ours the text.`,
);
const partial = options.quick || options.formats || options.sequences || !node.entry;
const shape = options.shape ? `${options.shape.toLowerCase()}-` : '';
await writeJson(
  options.json ?? (partial ? null : join(root, `bench/results/batch-${shape}${slug(host.cpu)}.json`)),
  {
    bench: 'batch',
    ...host,
    model: files.name,
    peers: [`llama.cpp ${peer.commit}`, ...(node.version ? [`node-llama-cpp ${node.version}`] : [])],
    level,
    threads,
    rounds,
    prompt: PROMPT,
    tokens: TOKENS,
    results,
  },
);
