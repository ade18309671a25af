// `node bench/gpu.mjs`: ops and whole models of Llama shapes on a GPU, each beside its floor, measured in the same run, and its goal.
//   node bench/gpu.mjs [--device cuda:0] [--filter TEXT] [--seconds N] [--json FILE] [--quick]
// --quick: tiny shapes, to try the benchmark itself (also with --device cpu or emulated).
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Stream } from '../dist/ops/index.js';
import { CASES } from './gpu/cases.mjs';
import { digits, machine, root, slug, table, writeJson } from './report.mjs';

const { values: options } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda:0' },
    filter: { type: 'string', default: '' },
    seconds: { type: 'string', default: '240' },
    json: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
});
const started = performance.now();
const seconds = () => (performance.now() - started) / 1e3;
const host = machine();
const stream = new Stream({ device: options.device });

function nvidiaSmi() {
  const { status, stdout } = spawnSync(
    'nvidia-smi',
    ['--query-gpu=name,driver_version,clocks.max.sm,power.limit', '--format=csv,noheader'],
    { encoding: 'utf8' },
  );
  return status === 0 ? stdout.trim().split('\n')[0] : null;
}

/** What the device does at best, from gpu-tests; null when that cannot say. */
function measureFloors() {
  const program = process.env.EYRIE_GPU_TESTS_BINARY ?? join(root, 'build/gpu-tests');
  if (!options.device.startsWith('cuda') || !existsSync(program)) return null;
  const { status, stdout, stderr } = spawnSync(program, ['--floors'], { encoding: 'utf8', timeout: 60_000 });
  try {
    const floors = JSON.parse(stdout.trim().split('\n').at(-1));
    return floors.readGBs ? floors : null;
  } catch {
    console.log(`no floors: ${program} ended with ${status} ${stderr}`);
    return null;
  }
}

/** bf16 products that the GPU is sold for, dense: a floor that nothing here can measure without a library. */
const PEAK_TFLOPS = [
  [/H100|H200|GH200/, 989],
  [/A100/, 312],
  [/B200|B100/, 2250],
];
const name = stream.name;
const floors = measureFloors();
const peak = PEAK_TFLOPS.find(([pattern]) => pattern.test(name))?.[1] ?? null;
console.log(`${name}, driver and clocks: ${nvidiaSmi() ?? 'unknown'}, ${host.date}`);
console.log(
  `floors: ${floors ? JSON.stringify(floors) : 'not measured'}; ${peak ?? '?'} TFLOP/s on the data sheet\n`,
);

/** Least µs that a row can take. */
function floorUs(row) {
  const memory = row.bytes && floors ? row.bytes / floors.readGBs / 1e3 : 0;
  const compute = row.flops && peak ? row.flops / peak / 1e6 : 0;
  return Math.max(memory, compute) || null;
}

function goalMet(row, floor) {
  const g = row.goal;
  if (!g) return null;
  if (g.us !== undefined) return row.us <= g.us;
  if (g.tflops !== undefined) return row.flops / row.us / 1e6 >= g.tflops;
  return floor === null ? null : floor / row.us >= g.share;
}

function goalText(g) {
  if (!g) return '';
  if (g.us !== undefined) return `≤ ${digits(g.us)} µs`;
  return g.tflops === undefined ? `≥ ${Math.round(100 * g.share)} %` : `≥ ${g.tflops} TFLOP/s`;
}

const rows = [];
const skipped = [];
let failed = 0;
for (const c of CASES) {
  if (!c.title.includes(options.filter)) continue;
  if (seconds() > Number(options.seconds)) {
    skipped.push(c.title);
    continue;
  }
  const begun = seconds();
  try {
    for await (const row of c.run(stream, { quick: options.quick })) {
      const floor = floorUs(row);
      const met = goalMet(row, floor);
      rows.push({ ...row, floorUs: floor, share: floor === null ? null : floor / row.us, goalMet: met });
      console.log(`${row.what}: ${digits(row.us)} µs${row.note ? `, ${row.note}` : ''}`);
    }
  } catch (error) {
    const absent = error.code === 'EYRIE_UNSUPPORTED';
    if (!absent) failed++;
    rows.push({ what: c.title, error: `${error.code ?? error.name} ${error.message}` });
    console.log(`${absent ? 'absent' : 'FAILED'} ${c.title}: ${error.message}`);
  }
  console.log(`  (${c.title}: ${digits(seconds() - begun)} s)`);
}
for (const title of skipped) console.log(`skipped ${title}: ${options.seconds} s were over`);
const done = rows.filter((r) => !r.error);
console.log(
  `\n${table(
    ['case', 'µs', 'min', 'GB/s', 'TFLOP/s', 'floor µs', '% of floor', 'goal', 'met'],
    done.map((r) => [
      r.what,
      digits(r.us),
      digits(r.minUs),
      r.bytes ? digits(r.bytes / r.us / 1e3) : '',
      r.flops ? digits(r.flops / r.us / 1e6) : '',
      r.floorUs === null ? '' : digits(r.floorUs),
      r.share === null ? '' : Math.round(100 * r.share),
      goalText(r.goal),
      r.goalMet === null ? '' : r.goalMet ? 'yes' : 'NO',
    ]),
    ['goal'],
  )}`,
);
const partial = options.quick || options.filter !== '';
await writeJson(options.json ?? (partial ? null : join(root, `bench/results/gpu-ops-${slug(name)}.json`)), {
  bench: 'gpu',
  ...host,
  device: name,
  driver: nvidiaSmi(),
  floors,
  peakTflops: peak,
  quick: options.quick,
  skipped,
  results: rows,
});
stream.dispose();
process.exitCode = failed ? 1 : 0;
