// `npm run bench:formats`: one model in many formats of GGUF, beside llama.cpp's own bench and node-llama-cpp on the same files with the same threads, in turn,
// and beside the bandwidth of memory, measured in every round.
//   node bench/formats.mjs [--model FILE.gguf | --shape 1B] [--formats Q4_0,Q8_0] [--threads N] [--level NAME] [--rounds N] [--json FILE] [--quick]
// The model is written out in f32 and quantised by llama.cpp's quantizer into build/bench, so its text is no better than the file it comes from; a shape is
// a checkpoint with random weights (bench/synthetic.mjs).
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readBandwidth } from './floors.mjs';
import { formatFiles } from './format-files.mjs';
import { buildLlamaCpp, llamaBench } from './llama-cpp.mjs';
import { installPeer } from './peer.mjs';
import {
  digits,
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

const FORMATS = {
  file: 'F32,F16,BF16,Q8_0,Q6_K,Q5_K_M,Q5_1,Q5_0,Q4_K_M,Q4_1,Q4_0,IQ4_NL,IQ4_XS,Q3_K_M,Q2_K',
  shape: 'BF16,Q8_0,Q4_K_M,Q4_0',
};
const { values: options } = parseArgs({
  options: {
    model: { type: 'string' },
    shape: { type: 'string' },
    formats: { type: 'string' },
    threads: { type: 'string' },
    level: { type: 'string' },
    rounds: { type: 'string' },
    json: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
});
const host = machine();
const threads = Number(options.threads ?? Math.min(2, host.cores));
const rounds = Number(options.rounds ?? (options.quick ? 1 : 5));
const formats = (options.formats ?? FORMATS[options.shape ? 'shape' : 'file']).split(',');
const [PROMPT, TOKENS] = options.quick ? [128, 16] : [512, options.shape ? 64 : 128];
const fail = (message) => {
  console.error(message);
  process.exit(1);
};
const peer = buildLlamaCpp();
if ('error' in peer) fail(`llama.cpp cannot be built: ${peer.error}`);
const node = installPeer();
if ('error' in node) fail(`node-llama-cpp: ${node.error}`);
const files = await formatFiles(peer.folder, options, formats).catch((e) => fail(e.message));

/** A trial in a process of its own; prompts are ids below the smallest vocabulary. */
function measure(side, format, scenario, tokens) {
  const prompts = Array.from({ length: scenario === 'prefill' ? 4 : 2 }, (_, p) =>
    Array.from(
      { length: scenario === 'prefill' ? PROMPT : 4 },
      (_, i) => 100 + ((i * 131 + p * 977) % 20000),
    ),
  );
  return trial({
    side,
    scenario,
    model: files.path(format),
    threads,
    level: options.level,
    peerEntry: node.entry,
    flashAttention: true,
    sequences: 1,
    contextPerSequence: 1024,
    prompts,
    tokens,
  });
}

console.log(
  `${files.name} on ${host.cpu}, ${threads} threads, Node ${host.node}, llama.cpp ${peer.commit}, node-llama-cpp ${node.version}, ${rounds} rounds, ${host.date}`,
);
warnIfBusy(host);
const results = [];
let level = '';
for (const format of formats) {
  const samples = { floor: [], prefill: [], decode: [], peerPrefill: [], peerDecode: [] };
  Object.assign(samples, { nodePrefill: [], nodeDecode: [], share: [] });
  const bytes = statSync(files.path(format)).size;
  const sides = [
    async () => {
      const prefill = await measure('eyrie', format, 'prefill', 1);
      level = prefill.about.level;
      samples.prefill.push(prefill.tokensPerSecond);
      const decode = await measure('eyrie', format, 'decode', TOKENS);
      samples.decode.push(decode.tokensPerSecond);
      // Just after, since a shared machine changes its pace.
      const floor = await readBandwidth(threads, 256 * 2 ** 20, 1000);
      samples.floor.push(floor);
      samples.share.push((decode.tokensPerSecond * bytes) / floor / 1e9);
    },
    async () => {
      const found = llamaBench(peer.folder, {
        model: files.path(format),
        threads,
        prompt: PROMPT,
        tokens: TOKENS,
      });
      samples.peerPrefill.push(found.prefill);
      samples.peerDecode.push(found.decode);
    },
    async () => {
      samples.nodePrefill.push((await measure('node-llama-cpp', format, 'prefill', 1)).tokensPerSecond);
      samples.nodeDecode.push((await measure('node-llama-cpp', format, 'decode', TOKENS)).tokensPerSecond);
    },
  ];
  await inTurn(format, rounds, sides);
  const of = Object.fromEntries(Object.entries(samples).map(([name, s]) => [name, summary(s)]));
  results.push({ format, bytes, ...of });
}
console.log(
  `\nlevel ${level}; tokens/s, median (min–max)\n\n${table(
    ['format', 'MB', 'decode', '% of reading', 'llama-bench', 'ratio', 'node-llama-cpp', 'ratio'],
    results.map((r) => [
      ...[r.format, (r.bytes / 1e6).toFixed(0), spread(r.decode), (100 * r.share.median).toFixed(0)],
      ...[spread(r.peerDecode), ratio(r.decode, r.peerDecode), spread(r.nodeDecode)],
      ratio(r.decode, r.nodeDecode),
    ]),
  )}\n\n${table(
    [`prefill ${PROMPT}`, 'ours', 'llama-bench', 'ratio', 'node-llama-cpp', 'ratio'],
    results.map((r) => [
      ...[r.format, spread(r.prefill), spread(r.peerPrefill), ratio(r.prefill, r.peerPrefill)],
      ...[spread(r.nodePrefill), ratio(r.prefill, r.nodePrefill)],
    ]),
  )}`,
);
console.log(
  `\n% of reading: bytes of the file times tokens a second, of what ${threads} threads read just after (medians ${digits(summary(results.map((r) => r.floor.median)).median)} GB/s).\n` +
    'Ours includes sampling, text and streaming, as node-llama-cpp does but for the text; llama-bench computes logits of random tokens and draws nothing.',
);
await writeJson(
  options.json ??
    (options.quick || options.formats
      ? null
      : join(
          root,
          `bench/results/formats-${options.shape ? `${options.shape.toLowerCase()}-` : ''}${slug(host.cpu)}.json`,
        )),
  {
    bench: 'formats',
    ...host,
    model: files.name,
    peers: [`llama.cpp ${peer.commit}`, `node-llama-cpp ${node.version}`],
    level,
    threads,
    rounds,
    prompt: PROMPT,
    tokens: TOKENS,
    results,
  },
);
