// `npm run bench:decode`: tokens per second, latencies, load time and memory on a GGUF, beside node-llama-cpp on the same file,
// every trial in a process of its own and the sides in turn.
//   node bench/decode.mjs [--model FILE] [--threads N] [--level NAME] [--rounds N] [--no-peer] [--json FILE] [--quick]
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { installPeer } from './peer.mjs';
import {
  digits,
  machine,
  root,
  sharedPath,
  slug,
  spread,
  summary,
  table,
  warnIfBusy,
  writeJson,
} from './report.mjs';
import { trial as runTrial } from './run-trial.mjs';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string' },
    text: { type: 'string' },
    threads: { type: 'string' },
    level: { type: 'string' },
    rounds: { type: 'string' },
    'no-peer': { type: 'boolean', default: false },
    json: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
});
const host = machine();
const threads = Number(options.threads ?? Math.min(2, host.cores));
const rounds = Number(options.rounds ?? (options.quick ? 1 : 5));
const model = options.model ?? sharedPath('models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf');
const textFile = options.text ?? sharedPath('data/wikitext2-valid.txt');
for (const [what, path, option] of [
  ['the model SmolLM2-135M-Instruct.Q4_1.gguf', model, '--model FILE.gguf'],
  ['the text wikitext2-valid.txt', textFile, '--text FILE.txt'],
]) {
  if (path && existsSync(path)) continue;
  console.error(
    `${path ?? what} is not here: give ${option}, or name the folder of shared material in EYRIE_SHARED`,
  );
  process.exit(1);
}

const PREFILL = 512;
const DECODE = options.quick ? 32 : 128;
const BATCH = options.quick ? 16 : 64;
/** Short prompts, all different. */
const TEXTS = [
  'Once upon a time, there was a',
  'The capital of France is',
  'To make a good cup of coffee, first',
  'In the year 2050, people will',
  'The three states of matter are',
  'Photosynthesis is the process by which',
  'My favourite book is about a',
  'A computer program is',
  'The best way to learn a language is',
  'Yesterday I went to the market and',
  'The old lighthouse stood',
  'Dear Sir or Madam,',
  'An octopus has eight arms because',
  'The recipe calls for two eggs,',
  'Mathematics is the study of',
  'When the rain stopped,',
];

/** @param {Partial<import('./trial.mjs').Job>} job */
const trial = (job) => runTrial({ model, threads, level: options.level, ...job });

const peer = options['no-peer'] ? { error: '--no-peer' } : installPeer();
const sides = [{ name: 'eyrie', job: { side: 'eyrie' } }];
if ('entry' in peer) {
  // Whichever is faster counts: the default depends on the model, and is not always the best choice on a CPU.
  for (const flashAttention of [false, true]) {
    const name = `${peer.name}${flashAttention ? ' (flash)' : ''}`;
    sides.push({ name, job: { side: 'node-llama-cpp', peerEntry: peer.entry, flashAttention } });
  }
} else if (!options['no-peer']) console.log(`without the peer: ${peer.error}`);

// Both sides get the ids of our tokenizer. The long prompts are different parts of one text, so that nothing can be reused.
const long = readFileSync(textFile, 'utf8').slice(0, 40_000);
const tokenised = await trial({
  side: 'eyrie',
  scenario: 'tokenise',
  sequences: 1,
  contextPerSequence: 64,
  texts: [long, ...TEXTS],
});
const [longIds, ...short] = tokenised.ids;
const parts = Array.from({ length: options.quick ? 3 : 5 }, (_, i) =>
  longIds.slice(i * PREFILL, (i + 1) * PREFILL),
);
const alone = { sequences: 1, contextPerSequence: 1024 };
const scenarios = {
  load: { ...alone, scenario: 'load', prompts: [short[0]], tokens: 1 },
  prefill: { ...alone, scenario: 'prefill', prompts: parts, tokens: 1 },
  decode: { ...alone, scenario: 'decode', prompts: short, tokens: DECODE },
  'batch 4': {
    sequences: 4,
    contextPerSequence: 256,
    scenario: 'batch',
    prompts: short.slice(0, 4),
    tokens: BATCH,
  },
  'batch 16': { sequences: 16, contextPerSequence: 256, scenario: 'batch', prompts: short, tokens: BATCH },
};

const { level } = tokenised.about;
console.log(
  `${basename(model)} on ${host.cpu}, level ${level}, ${threads} threads, Node ${host.node}, ` +
    `${'entry' in peer ? `${peer.name} ${peer.version}, ` : ''}${rounds} rounds, ${host.date}`,
);
warnIfBusy(host);

/** results[scenario][side] = one result a round. */
const results = Object.fromEntries(Object.keys(scenarios).map((s) => [s, sides.map(() => [])]));
for (let round = 0; round < rounds; round++) {
  for (const [name, job] of Object.entries(scenarios)) {
    // Every second round goes backwards, so that nobody always runs behind the same one.
    const order = sides.map((_, i) => (round % 2 ? sides.length - 1 - i : i));
    for (const i of order) {
      if (process.stderr.isTTY)
        process.stderr.write(`\r\x1b[K${round + 1}/${rounds} ${name}: ${sides[i].name}`);
      results[name][i].push(await trial({ ...job, ...sides[i].job }));
    }
  }
}
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');

const ALONE = ['load', 'prefill', 'decode'];
/** Largest peak of the trials of a round that have one context in common. */
const peak = (scenarioNames) => (side) =>
  Array.from({ length: rounds }, (_, r) =>
    Math.max(...scenarioNames.map((s) => results[s][side][r].peakBytes)),
  );
const of = (scenario, field) => (side) => results[scenario][side].map((r) => r[field]);
// [title, unit, samples of a side, whether more is better, goal for ours over the peer's]
const rows = [
  ['prefill, 512 tokens', 'tokens/s', of('prefill', 'tokensPerSecond'), true, 0.6],
  ['decode, 1 sequence', 'tokens/s', of('decode', 'tokensPerSecond'), true, 1.2],
  ['4 sequences together', 'tokens/s', of('batch 4', 'tokensPerSecond'), true, null],
  ['16 sequences together', 'tokens/s', of('batch 16', 'tokensPerSecond'), true, 1.5],
  ['first token, 512 tokens', 'ms', of('prefill', 'firstMs'), false, null],
  ['first token, short prompt', 'ms', of('decode', 'firstMs'), false, null],
  ['import', 'ms', of('load', 'importMs'), false, null],
  ['load', 'ms', of('load', 'loadMs'), false, null],
  ['import + load + first token', 'ms', of('load', 'totalMs'), false, 0.7],
  ['peak memory, 1 sequence', 'MB', (i) => peak(ALONE)(i).map((b) => b / 1e6), false, null],
  ['peak memory, 16 sequences', 'MB', (i) => peak(['batch 16'])(i).map((b) => b / 1e6), false, null],
].map(([title, unit, samples, more, goal]) => {
  const each = sides.map((_, i) => summary(samples(i)));
  const others = each.slice(1).map((s) => s.median);
  const best = others.length ? (more ? Math.max(...others) : Math.min(...others)) : null;
  return { title, unit, each, ratio: best === null ? null : each[0].median / best, goal, more };
});

const goalText = ({ goal, more }) => (goal === null ? '' : `${more ? '≥' : '≤'} ${goal}×`);
console.log(
  `\n${table(
    ['median (min–max)', 'unit', ...sides.map((s) => s.name), 'ours / peer', 'goal'],
    rows.map((r) => [
      r.title,
      r.unit,
      ...r.each.map(spread),
      r.ratio === null ? '' : `${r.ratio.toFixed(2)}×`,
      goalText(r),
    ]),
    ['unit'],
  )}`,
);

// The share of a decode step that is not kernels.
const overheads = results.decode[0].map((r) => r.overhead);
const share = {
  host: summary(overheads.map((o) => o.hostMs / o.tokenMs)),
  all: summary(overheads.map((o) => o.share)),
  msPerToken: summary(overheads.map((o) => o.tokenMs)),
  kernelMs: summary(overheads.map((o) => o.kernelMs)),
  waits: {
    launches: overheads[0].waits.launches,
    barriers: overheads[0].waits.barriers,
    share: summary(overheads.map((o) => o.waits.share)),
  },
};
const percent = (s) => `${(100 * s.median).toFixed(1)} %`;
console.log(
  `\nA decoded token takes ${digits(share.msPerToken.median)} ms: ${digits(share.kernelMs.median)} ms when steps are queued without waiting for ` +
    `tokens, so JavaScript, N-API and the way between threads take ${percent(share.all)} (goal: ≤ 5 %); JavaScript alone was busy for ${percent(share.host)}.\n` +
    `A step is ${share.waits.launches.toFixed(0)} ops with ${share.waits.barriers.toFixed(0)} barriers inside; the first worker waits for the others ${percent(share.waits.share)} of it, ` +
    'unequal work included (goal: ≤ 2 %).',
);

const fileBytes = statSync(model).size;
const memory = Object.fromEntries(
  [
    ['1 sequence', ALONE],
    ['16 sequences', ['batch 16']],
  ].map(([title, names]) => {
    const kvBytes = results[names[0]][0][0].kvBytes;
    const peakBytes = summary(peak(names)(0)).median;
    return [title, { fileBytes, kvBytes, peakBytes, restBytes: peakBytes - fileBytes - kvBytes }];
  }),
);
for (const [title, m] of Object.entries(memory)) {
  const mb = (b) => (b / 1e6).toFixed(1);
  console.log(
    `Peak memory, ${title}: ${mb(m.peakBytes)} MB = file ${mb(m.fileBytes)} + KV ${mb(m.kvBytes)} + ${mb(m.restBytes)} (goal: ≤ 80).`,
  );
}

// A check that both computed the same thing, not a judgement: the peer rounds activations to int8.
const agreement = sides.slice(1).map((s, k) => {
  const [a, b] = [results.decode[0][0].ids, results.decode[k + 1][0].ids];
  const differ = a.findIndex((id, i) => id !== b[i]);
  return { side: s.name, equalTokens: differ < 0 ? a.length : differ, of: a.length };
});
for (const a of agreement) {
  console.log(
    `Greedy text, "${TEXTS[0]}": the first ${a.equalTokens} of ${a.of} tokens equal those of ${a.side}.`,
  );
}
const repeat = results.decode[0].every((r) => r.ids.join() === results.decode[0][0].ids.join());
const inBatch = results['batch 16'][0].every(
  (r) => r.ids[0].join() === results.decode[0][0].ids.slice(0, BATCH).join(),
);
console.log(
  `Ours: ${repeat ? 'the same' : 'NOT the same'} text in every round, ${inBatch ? 'the same' : 'NOT the same'} in a batch of 16 as alone.`,
);

const partial = options.quick || !('entry' in peer);
await writeJson(
  options.json ?? (partial ? null : join(root, `bench/results/decode-${slug(host.cpu)}.json`)),
  {
    bench: 'decode',
    ...host,
    model: basename(model),
    fileBytes,
    level,
    threads,
    rounds,
    quick: options.quick,
    peer:
      'entry' in peer
        ? { name: peer.name, version: peer.version, llamaCpp: results.load[1][0].about.llamaCpp }
        : null,
    sides: sides.map((s) => s.name),
    rows: rows.map(({ more, ...r }) => ({ ...r, better: more ? 'more' : 'less' })),
    share,
    memory,
    agreement: { peer: agreement, repeat, inBatch },
  },
);
