// `npm run gpu`: everything that only a GPU can answer, in one command of less than nine minutes: the records of the CPU on the device,
// compute-sanitizer, the tests of ops and models on CUDA, and the benchmarks beside their floors and PyTorch.
//   node scripts/gpu.mjs [--only tests|sanitizers|bench] [--seconds N] [--serial] [--no-build]
// What does not fit the time, or what this machine lacks, is skipped aloud. Two files end in build/gpu-out, or in the folder OUT: the results as
// JSON and all logs in one.
import { spawn } from 'node:child_process';
import {
  appendFileSync,
  createWriteStream,
  existsSync,
  mkdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import load from 'node-gyp-build';
import { fail, gpu, nvcc, output, root, run, runBin, say, which } from './util.mjs';

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    seconds: { type: 'string', default: '530' },
    serial: { type: 'boolean', default: false },
    'no-build': { type: 'boolean', default: false },
  },
});
const GROUPS = ['tests', 'sanitizers', 'bench'];
if (options.only && !GROUPS.includes(options.only)) fail(`--only: expected one of ${GROUPS.join(', ')}`);
const out = resolve(root, process.env.OUT ?? 'build/gpu-out');
const work = join(root, 'build/gpu-out/parts');
for (const folder of [out, work]) mkdirSync(folder, { recursive: true });
const allLogs = join(out, 'gpu-log.txt');
writeFileSync(allLogs, '');
const program = join(root, 'build/gpu-tests');
const records = join(root, 'build/records/ops.rec');
const large = join(root, 'build/records/large.rec');
const hasGpu = gpu();

/** Brings the binaries, the records and dist up to date. */
async function build() {
  const archs = process.env.EYRIE_CUDA_ARCHS ?? 'native';
  const { buildNative } = await import('./native.mjs');
  if (!process.env.EYRIE_ADDON) buildNative({ cuda: true, archs });
  const folder = join(root, 'build/gpu-tests-build');
  run('cmake', [
    ...['-S', root, '-B', folder, ...(which('ninja') ? ['-G', 'Ninja'] : [])],
    ...['-DEYRIE_GPU_TESTS=ON', '-DEYRIE_ADDON_TARGET=OFF', '-DEYRIE_CUDA=ON', `-DEYRIE_CUDA_ARCHS=${archs}`],
  ]);
  run('cmake', ['--build', folder, '--parallel', String(availableParallelism())]);
  if (!existsSync(records)) run(process.execPath, [join(root, 'scripts/record.mjs')]);
  runBin('typescript', 'bin/tsc', ['-p', 'tsconfig.build.json']);
}
try {
  if (!options['no-build'] && hasGpu && nvcc()) await build();
} catch (error) {
  fail(`building for the GPU failed: ${error.message}`);
}

let machine = null;
try {
  const forced = process.env.EYRIE_ADDON;
  machine = (forced ? createRequire(import.meta.url)(forced) : load(root)).machine();
} catch (error) {
  say(`the addon does not load: ${error.message.split('\n')[0]}`);
}
const onDevice = machine !== null && (machine.cuda.devices > 0 || machine.cuda.emulated);

const started = performance.now();
const spent = () => (performance.now() - started) / 1e3;
const left = () => Number(options.seconds) - spent();

/**
 * @typedef {object} Part
 * @property {string} name
 * @property {string} group
 * @property {number} limit seconds at most
 * @property {[string, string[]]} command
 * @property {string | null} [lacks] why it cannot run here
 * @property {(log: string, code: number | null) => { state?: string, detail: string }} read
 */

/** Runs a part in a process group of its own, its output in a log. */
function execute(part) {
  const limit = Math.min(part.limit, left());
  if (part.lacks) return Promise.resolve({ ...part, state: 'skipped', detail: part.lacks, seconds: 0 });
  if (limit < 15)
    return Promise.resolve({
      ...part,
      state: 'skipped',
      detail: `no time was left of ${options.seconds} s`,
      seconds: 0,
    });
  const begun = performance.now();
  const file = join(work, `${part.name.replace(/[^a-z0-9]+/gi, '-')}.log`);
  const log = createWriteStream(file);
  return new Promise((done) => {
    const child = spawn(...part.command, {
      cwd: root,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, EYRIE_TEST_DEVICES: 'cuda', NO_COLOR: '1', ...part.env?.(limit) },
    });
    let text = '';
    let stopped = false;
    const take = (data) => {
      text += data;
      log.write(data);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    const timer = setTimeout(() => {
      stopped = true;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {}
    }, 1e3 * limit);
    const end = (result) => {
      clearTimeout(timer);
      log.end();
      const most = 2e6;
      const shown = text.length > most ? `${text.slice(0, most / 2)}\n…\n${text.slice(-most / 2)}` : text;
      appendFileSync(allLogs, `\n===== ${part.name}: ${part.command.flat().join(' ')}\n${shown}`);
      const seconds = (performance.now() - begun) / 1e3;
      say(
        `${result.state === 'ok' ? 'ok' : result.state.toUpperCase()} ${part.name}, ${seconds.toFixed(1)} s: ${result.detail}`,
      );
      if (result.state === 'failed') console.log(text.split('\n').slice(-60).join('\n'));
      done({ ...part, ...result, seconds, log: file });
    };
    child.on('error', (error) => end({ state: 'failed', detail: error.message }));
    child.on('close', (code, signal) => {
      if (stopped) return end({ state: 'failed', detail: `stopped after ${limit.toFixed(0)} s` });
      const said = part.read(text, code);
      const state = said.state ?? (code === 0 ? 'ok' : 'failed');
      end({ state, detail: `${said.detail}${code === 0 ? '' : ` (${signal ?? `exit code ${code}`})`}` });
    });
  });
}

const lastLine = (text) => text.trim().split('\n').at(-1) ?? '';
const readJson = (path) => (existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : null);

function vitest(name, paths, limit) {
  const report = join(work, `${name}.json`);
  const here = paths.filter((path) => existsSync(join(root, path)));
  return {
    name: `vitest ${name}`,
    group: 'tests',
    limit,
    command: [
      process.execPath,
      [
        join(root, 'node_modules/vitest/vitest.mjs'),
        ...['run', `--maxWorkers=${Math.max(2, Math.min(6, availableParallelism() >> 1))}`],
        ...['--reporter=default', '--reporter=json', `--outputFile.json=${report}`, ...here],
      ],
    ],
    lacks: onDevice ? null : `the addon has no device: ${machine?.cuda.message ?? 'it does not load'}`,
    read() {
      const r = readJson(report);
      return r
        ? {
            detail: `${r.numPassedTests} passed, ${r.numFailedTests} failed, ${r.numPendingTests + r.numTodoTests} skipped`,
          }
        : { detail: 'no report' };
    },
  };
}

/** gpu-tests, alone or under a tool. Exit code 3: it cannot start (no device). */
function replay(name, group, limit, prefix, args, lacks = null) {
  const missing = [program, records].find((path) => !existsSync(path));
  return {
    name,
    group,
    limit,
    command: [
      prefix[0] ?? program,
      [...prefix.slice(1), ...(prefix.length ? [program] : []), ...args, records],
    ],
    lacks: lacks ?? (missing ? `${missing} is not there` : null),
    read(log, code) {
      if (code === 3 && !hasGpu) return { state: 'skipped', detail: lastLine(log) };
      const summary = /^gpu-tests: .*$/m.exec(log)?.[0] ?? lastLine(log);
      const tool = /ERROR SUMMARY: .*$|RACECHECK SUMMARY: .*$/m.exec(log)?.[0];
      return { detail: tool ? `${tool}; ${summary}` : summary };
    },
  };
}

const sanitizer =
  which('compute-sanitizer') ?? ['/usr/local/cuda/bin/compute-sanitizer'].find(existsSync) ?? null;
const python = ['python3', 'python'].find(which) ?? null;
const noGpu = hasGpu ? null : 'no NVIDIA GPU is here';
const tool = (name, limit, count, ...more) =>
  replay(
    name,
    'sanitizers',
    limit,
    sanitizer ? [sanitizer, '--tool', name, '--error-exitcode', '9', '--print-limit', '20', ...more] : [],
    ['--exact', '--limit', String(count), '--repeat', '1'],
    noGpu ?? (sanitizer ? null : 'compute-sanitizer is not here'),
  );

/** The benchmark's own time limit leaves it room to write what it has. */
const benchJson = join(work, 'bench.json');
const peersJson = join(work, 'peers.json');
const parts = [
  // Sizes of models take the emulation too long.
  replay('gpu-tests', 'tests', 150, [], hasGpu && existsSync(large) ? [large] : []),
  vitest('ops', ['test/ops', 'test/cuda'], 240),
  vitest('models', ['test/models', 'test/engine/kv-dtype.test.ts', 'test/engine/weights.test.ts'], 180),
  tool('memcheck', 150, 10),
  tool('racecheck', 150, 6),
  tool('synccheck', 100, 6),
  // Buffers of records are written whole; what is left are workspaces and shared memory.
  tool('initcheck', 100, 6),
  {
    name: 'bench',
    group: 'bench',
    limit: 240,
    command: [process.execPath, [join(root, 'bench/gpu.mjs'), '--json', benchJson, '--seconds', '150']],
    lacks: noGpu,
    read: (log) => ({
      detail: log.includes('FAILED') ? 'a case failed' : `${readJson(benchJson)?.results.length ?? 0} rows`,
    }),
  },
  {
    name: 'peers',
    group: 'bench',
    limit: 160,
    command: [python ?? 'python3', [join(root, 'bench/gpu/peers.py'), '--seconds', '130']],
    lacks: noGpu ?? (python ? null : 'python3 is not here'),
    read(log) {
      const at = log.indexOf('{\n "bench": "peers"');
      if (at < 0) return { detail: lastLine(log) };
      const text = log.slice(at, log.indexOf('\n}', at) + 2);
      writeFileSync(peersJson, text);
      const r = JSON.parse(text);
      return { detail: `${r.results.length} rows, ${r.skipped.length} skipped` };
    },
  },
].filter((part) => !options.only || part.group === options.only);

const results = [];
const checks = parts.filter((part) => part.group !== 'bench');
if (options.serial) for (const part of checks) results.push(await execute(part));
else results.push(...(await Promise.all(checks.map(execute)))); // checks only: figures want the GPU for themselves
for (const part of parts.filter((p) => p.group === 'bench')) results.push(await execute(part));

const device = output('nvidia-smi', ['--query-gpu=name', '--format=csv,noheader'])?.split('\n')[0] ?? null;
const bench =
  existsSync(benchJson) && results.some((r) => r.name === 'bench' && r.seconds > 0)
    ? readJson(benchJson)
    : null;
const peers =
  existsSync(peersJson) && results.some((r) => r.name === 'peers' && r.seconds > 0)
    ? readJson(peersJson)
    : null;
console.log();
const { commit, digits, slug, table } = await import('../bench/report.mjs');
if (bench) {
  const log = readFileSync(results.find((r) => r.name === 'bench').log, 'utf8');
  console.log(log.slice(log.indexOf('\n| case')).trim(), '\n');
}
if (peers)
  console.log(
    `${table(
      ['PyTorch', 'µs', 'TFLOP/s', 'GB/s'],
      peers.results.map((r) => [
        r.what,
        digits(r.us),
        r.tflops ? digits(r.tflops) : '',
        r.gbps ? digits(r.gbps) : '',
      ]),
    )}\n${peers.skipped.map((s) => `skipped: ${s.what}: ${s.reason}\n`).join('')}`,
  );
console.log(
  table(
    ['part', 'result', 'seconds', 'what it says'],
    results.map((r) => [r.name, r.state, r.seconds.toFixed(1), r.detail]),
    ['result', 'what it says'],
  ),
);
const summary = {
  bench: 'gpu',
  device,
  date: new Date().toISOString(),
  commit: commit(),
  seconds: spent(),
  parts: results.map(({ name, group, state, seconds, detail }) => ({ name, group, state, seconds, detail })),
  ...(bench && { floors: bench.floors, driver: bench.driver, results: bench.results }),
  ...(peers && { peers }),
};
const name = `gpu-${slug(device ?? (machine?.cuda.emulated ? 'emulated' : 'none'))}.json`;
writeFileSync(join(out, name), `${JSON.stringify(summary, null, 1)}\n`);
if (hasGpu && !options.only) {
  mkdirSync(join(root, 'bench/results'), { recursive: true });
  writeFileSync(join(root, 'bench/results', name), `${JSON.stringify(summary, null, 1)}\n`);
}
const failed = results.filter((r) => r.state === 'failed').length;
const passed = results.filter((r) => r.state === 'ok').length;
say(
  `${passed} parts passed, ${failed} failed, ${results.length - passed - failed} skipped, ${spent().toFixed(0)} s; ${join(out, name)}`,
);
if (!passed && !failed) fail('nothing ran: npm run gpu wants an NVIDIA GPU');
process.exitCode = failed ? 1 : 0;
