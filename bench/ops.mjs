// `npm run bench:ops`: the time of every op of the table, its GB/s or GFLOP/s, and its share of the floor of this machine.
//   node bench/ops.mjs [--threads N] [--level NAME] [--filter TEXT] [--json FILE] [--quick]
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { OPS, Stream } from '../dist/ops/index.js';
import { floorOf, measureFloors } from './floors.mjs';
import { cases } from './ops-cases.mjs';
import { digits, machine, median, root, slug, table, warnIfBusy, writeJson } from './report.mjs';

const { values: options } = parseArgs({
  options: {
    threads: { type: 'string' },
    level: { type: 'string' },
    filter: { type: 'string', default: '' },
    json: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
});
const host = machine();
const stream = new Stream({
  ...(options.threads && { threads: Number(options.threads) }),
  ...(options.level && { level: options.level }),
});
const ROUND_MS = options.quick ? 2 : 10;
const ROUNDS = options.quick ? 5 : 15;

/** Time of what `enqueue` puts in the queue, in µs. */
async function once(enqueue) {
  const start = performance.now();
  enqueue();
  await stream.sync();
  return (performance.now() - start) * 1e3;
}

/**
 * µs of one call, over rounds: the calls are recorded in a graph and replayed between two waits, so that what JavaScript costs
 * is not in it.
 * @param {(() => void)[]} calls
 */
async function time(calls) {
  const record = (copies) =>
    stream.capture(() => {
      for (let i = 0; i < copies; i++) for (const call of calls) call();
    });
  const replay = (graph, repeats) =>
    once(() => {
      for (let i = 0; i < repeats; i++) graph.launch();
    });
  let graph = record(1);
  try {
    await replay(graph, 1);
    const single = Math.max(1, await replay(graph, 1));
    const wanted = Math.max(1, Math.ceil((ROUND_MS * 1e3) / single));
    // Short ops are recorded many times over: taking a graph from the queue costs about as much as they do.
    const copies = Math.min(wanted, Math.max(1, Math.floor(256 / calls.length)));
    if (copies > 1) {
      graph.dispose();
      graph = record(copies);
    }
    const repeats = Math.min(1000, Math.ceil(wanted / copies));
    await replay(graph, 1);
    const samples = [];
    for (let i = 0; i < ROUNDS; i++) {
      samples.push((await replay(graph, repeats)) / (repeats * copies * calls.length));
    }
    return { min: Math.min(...samples), median: median(samples) };
  } finally {
    graph.dispose();
  }
}

/** As `time`, for calls that allocate and can therefore not be recorded. */
async function timeOnce(calls) {
  const all = () => {
    for (const call of calls) call();
  };
  const samples = [];
  for (let i = 0; i < 5; i++) samples.push((await once(all)) / calls.length);
  return { min: Math.min(...samples), median: median(samples) };
}

console.log(`${host.cpu}, level ${stream.name}, ${stream.threads} threads, Node ${host.node}, ${host.date}`);
warnIfBusy(host);
const floors = await measureFloors(stream, time, options.quick);
console.log(
  `\nfloors: memory ${digits(floors.memory)} GB/s, caches ${digits(floors.cache)} GB/s, products ` +
    `${digits(floors.compute.bf16)} GFLOP/s (bf16 activations) and ${digits(floors.compute.f32)} (f32), ` +
    `launch ${digits(floors.launch)} µs\n`,
);

const results = [];
const seen = new Set();
for (const { op, model, make } of cases(options.quick)) {
  seen.add(op);
  if (!`${op} ${model}`.includes(options.filter)) continue;
  const c = make(stream);
  try {
    const { min, median: middle } = await (c.once ? timeOnce : time)(c.calls);
    const floor = floorOf(floors, c);
    const bytes = (c.cold ?? 0) + (c.warm ?? 0);
    results.push({
      op,
      model,
      what: c.what,
      us: middle,
      minUs: min,
      gbps: bytes / middle / 1e3,
      gflops: c.flops ? c.flops / middle / 1e3 : null,
      floor: floor.bound,
      share: floor.us / middle,
    });
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${op} ${model} ${c.what}`);
  } finally {
    c.dispose();
  }
}
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
console.log(
  table(
    ['op', 'model', 'shape', 'µs', 'min µs', 'GB/s', 'GFLOP/s', '% of floor', 'floor'],
    results.map((r) => [
      r.op,
      r.model,
      r.what,
      digits(r.us),
      digits(r.minUs),
      digits(r.gbps),
      r.gflops === null ? '' : digits(r.gflops),
      Math.round(100 * r.share),
      r.floor,
    ]),
    ['model', 'shape', 'floor'],
  ),
);
const missing = OPS.map((op) => op.name).filter((name) => !seen.has(name));
if (missing.length > 0) {
  console.error(`\nno case in bench/ops-cases.mjs for: ${missing.join(', ')}`);
  process.exitCode = 1;
}
const partial = options.quick || options.filter !== '';
await writeJson(options.json ?? (partial ? null : join(root, `bench/results/ops-${slug(host.cpu)}.json`)), {
  bench: 'ops',
  ...host,
  level: stream.name,
  threads: stream.threads,
  quick: options.quick,
  floors,
  results,
});
stream.dispose();
