// `npm run bench:formats`: one model in many formats of GGUF, beside llama.cpp's own bench on the same files with the same threads, the two in turn.
//   node bench/formats.mjs [--model FILE.gguf] [--formats Q4_0,Q8_0] [--threads N] [--level NAME] [--rounds N] [--json FILE] [--quick]
// The model is written out in f32 and quantised by llama.cpp's quantizer into build/bench, so its text is no better than the file it comes from.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildLlamaCpp, llamaBench, quantise } from './llama-cpp.mjs';
import { digits, machine, root, sharedPath, slug, summary, table, warnIfBusy, writeJson } from './report.mjs';

const FORMATS = 'F32,F16,BF16,Q8_0,Q6_K,Q5_K_M,Q5_1,Q5_0,Q4_K_M,Q4_1,Q4_0,IQ4_NL,IQ4_XS,Q3_K_M,Q2_K'.split(
  ',',
);
const { values: options } = parseArgs({
  options: {
    model: { type: 'string' },
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
const formats = options.formats?.split(',') ?? FORMATS;
const [PROMPT, TOKENS] = options.quick ? [128, 16] : [512, 128];
const model = options.model ?? sharedPath('models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf');
const fail = (message) => {
  console.error(message);
  process.exit(1);
};
if (!model || !existsSync(model))
  fail(`${model ?? 'the model SmolLM2-135M-Instruct.Q4_1.gguf'} is not here: give --model FILE.gguf`);
const peer = buildLlamaCpp();
if ('error' in peer) fail(`llama.cpp cannot be built: ${peer.error}`);

const folder = join(root, 'build/bench');
mkdirSync(folder, { recursive: true });
const fileOf = (format) => join(folder, `${basename(model, '.gguf')}.${format}.gguf`);
/** Makes a file under another name first, so that one half written is never taken for whole. */
function make(path, write) {
  if (existsSync(path)) return;
  console.log(`writing ${basename(path)} …`);
  const error = write(`${path}.part`);
  if (error) fail(error);
  renameSync(`${path}.part`, path);
}
make(fileOf('F32'), (to) => {
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'bench/dequantise.mjs'), model, to], {
    encoding: 'utf8',
  });
  return status === 0 ? null : stderr;
});
for (const format of formats)
  if (format !== 'F32') make(fileOf(format), (to) => quantise(peer.folder, fileOf('F32'), to, format));

/** A trial of ours in a process of its own; prompts are ids below the smallest vocabulary. */
function ours(format, scenario, tokens) {
  const prompts = Array.from({ length: scenario === 'prefill' ? 4 : 2 }, (_, p) =>
    Array.from(
      { length: scenario === 'prefill' ? PROMPT : 4 },
      (_, i) => 100 + ((i * 131 + p * 977) % 20000),
    ),
  );
  const job = {
    side: 'eyrie',
    scenario,
    model: fileOf(format),
    threads,
    level: options.level,
    sequences: 1,
    contextPerSequence: 1024,
    prompts,
    tokens,
  };
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'bench/trial.mjs')], {
    input: JSON.stringify(job),
    encoding: 'utf8',
  });
  if (status !== 0) fail(`${format}, ${scenario}: ${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

console.log(
  `${basename(model)} on ${host.cpu}, ${threads} threads, Node ${host.node}, llama.cpp ${peer.commit}, ${rounds} rounds, ${host.date}`,
);
warnIfBusy(host);
const results = [];
let level = '';
for (const format of formats) {
  const samples = { prefill: [], decode: [], peerPrefill: [], peerDecode: [] };
  const sides = [
    () => {
      const prefill = ours(format, 'prefill', 1);
      level = prefill.about.level;
      samples.prefill.push(prefill.tokensPerSecond);
      samples.decode.push(ours(format, 'decode', TOKENS).tokensPerSecond);
    },
    () => {
      const found = llamaBench(peer.folder, {
        model: fileOf(format),
        threads,
        prompt: PROMPT,
        tokens: TOKENS,
      });
      samples.peerPrefill.push(found.prefill);
      samples.peerDecode.push(found.decode);
    },
  ];
  for (let round = 0; round < rounds; round++) {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${format}: ${round + 1}/${rounds}`);
    for (const side of round % 2 ? [...sides].reverse() : sides) side();
  }
  const of = Object.fromEntries(Object.entries(samples).map(([name, s]) => [name, summary(s)]));
  results.push({ format, bytes: statSync(fileOf(format)).size, ...of });
}
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');

const cell = (s) =>
  rounds > 1 ? `${digits(s.median)} (${digits(s.min)}–${digits(s.max)})` : digits(s.median);
const ratio = (a, b) => `${(a.median / b.median).toFixed(2)}×`;
console.log(
  `\nlevel ${level}; tokens/s, median (min–max)\n\n${table(
    ['format', 'MB', 'decode', 'llama-bench', 'ratio', `prefill ${PROMPT}`, 'llama-bench', 'ratio'],
    results.map((r) => [
      ...[
        r.format,
        (r.bytes / 1e6).toFixed(0),
        cell(r.decode),
        cell(r.peerDecode),
        ratio(r.decode, r.peerDecode),
      ],
      ...[cell(r.prefill), cell(r.peerPrefill), ratio(r.prefill, r.peerPrefill)],
    ]),
  )}`,
);
console.log(
  '\nOurs includes sampling, text and streaming; llama-bench computes logits of random tokens and draws nothing.',
);
await writeJson(
  options.json ??
    (options.quick || options.formats ? null : join(root, `bench/results/formats-${slug(host.cpu)}.json`)),
  {
    bench: 'formats',
    ...host,
    model: basename(model),
    peer: `llama.cpp ${peer.commit}`,
    level,
    threads,
    rounds,
    prompt: PROMPT,
    tokens: TOKENS,
    results,
  },
);
