// `npm run test:mutations`: plants the bugs of test/cuda/mutations.mjs in the fixtures of test/cuda/fixtures, one at a time, and
// expects the emulation (csrc/emulation), or AddressSanitizer over it, to notice each of them, and nothing in the unchanged ones.
// Words pick mutations whose text contains one of them.
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { MUTATIONS } from '../test/cuda/mutations.mjs';
import { fail, output, root, say } from './util.mjs';

const cxx = process.env.CXX ?? 'g++';
if (!output(cxx, ['--version'])) {
  say(`skipped: ${cxx} is not here`);
  process.exit(0);
}
const folder = join(root, 'build/mutations');
const fixtures = join(root, 'test/cuda/fixtures');
const flags = [
  '-std=c++20',
  '-ffp-contract=off',
  '-DEYRIE_EMULATED=1',
  '-w',
  `-I${join(root, 'csrc')}`,
  `-I${fixtures}`,
];
const variants = { plain: ['-O1'], asan: ['-O1', '-g1', '-fsanitize=address', '-fno-omit-frame-pointer'] };
const emulation = readdirSync(join(root, 'csrc/emulation')).filter(
  (f) => f.endsWith('.cc') && f !== 'backend.cc',
);

/** Runs a program; resolves to its exit code (null: killed) and what it printed. */
function start(program, args, seconds) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: seconds * 1000,
      env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=0:detect_stack_use_after_return=0' },
    });
    let text = '';
    child.stdout.on('data', (data) => (text += data));
    child.stderr.on('data', (data) => (text += data));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, text }));
  });
}

/** Calls `task` on every item, as many at a time as there are cores. */
async function all(items, task) {
  const queue = [...items.entries()];
  const results = [];
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift())
      results[next[0]] = await task(next[1], next[0]);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return results;
}

async function compile(args) {
  const { code, text } = await start(cxx, [...flags, ...args], 300);
  if (code !== 0) throw new Error(`${cxx} ${args.join(' ')}:\n${text.slice(0, 2000)}`);
}

const object = (variant, file) => join(folder, `${variant}-${file}.o`);

/** Builds and runs a program from the text of a fixture: { digest }, or { noticed, how }. */
async function observe(name, source, variant) {
  const path = join(folder, `${name}-${variant}.cu`);
  writeFileSync(path, source);
  const program = join(folder, `${name}-${variant}`);
  const objects = emulation.map((file) => object(variant, file));
  await compile([
    ...variants[variant],
    '-x',
    'c++',
    path,
    '-x',
    'none',
    ...objects,
    '-o',
    program,
    '-lpthread',
  ]);
  const { code, text } = await start(program, [], 60);
  const asan = /AddressSanitizer: ([\w-]+)/.exec(text);
  if (asan) return { noticed: 'asan', how: asan[0] };
  const [, kind, how] = /^(digest|schedules|error): (.*)$/m.exec(text) ?? [];
  if (kind === 'digest') return { digest: how };
  if (kind) return { noticed: kind, how };
  return { noticed: 'error', how: code === null ? 'it does not end' : `exit code ${code}` };
}

try {
  mkdirSync(folder, { recursive: true });
  const started = performance.now();
  const words = process.argv.slice(2);
  const chosen = MUTATIONS.filter(
    (m) => !words.length || words.some((w) => `${m.fixture} ${m.bug}`.includes(w)),
  );
  await all(
    Object.keys(variants).flatMap((variant) => emulation.map((file) => [variant, file])),
    ([variant, file]) =>
      compile([...variants[variant], '-c', join(root, 'csrc/emulation', file), '-o', object(variant, file)]),
  );
  const clean = {};
  for (const fixture of new Set(MUTATIONS.map((m) => m.fixture))) {
    const source = readFileSync(join(fixtures, `${fixture}.cu`), 'utf8');
    const [plain, asan] = await all(['plain', 'asan'], (variant) => observe(fixture, source, variant));
    if (!plain.digest || plain.digest !== asan.digest)
      fail(`${fixture}.cu, unchanged, is not silent: ${plain.how ?? ''} ${asan.how ?? ''}`);
    clean[fixture] = { source, digest: plain.digest };
  }
  let missed = 0;
  await all(chosen, async ({ bug, fixture, from, to, noticed }, index) => {
    const { source, digest } = clean[fixture];
    if (source.split(from).length !== 2) throw new Error(`${fixture}.cu: '${from}' does not occur once`);
    const mutant = source.replace(from, () => to);
    const name = `${fixture}-${index}`;
    const see = async (variant) => {
      const seen = await observe(name, mutant, variant);
      return seen.digest === digest ? null : seen.digest ? { noticed: 'bits', how: 'another result' } : seen;
    };
    let seen = await see('plain');
    if (
      !(seen && noticed.includes(seen.noticed)) &&
      (noticed.includes('asan') || noticed.includes('nothing'))
    )
      seen = await see('asan');
    const kind = seen?.noticed ?? 'nothing';
    const right = noticed.includes(kind);
    if (!right) missed++;
    const expected = right ? '' : `, expected ${noticed.join(' or ')}`;
    say(
      `${right ? 'ok  ' : 'MISS'} ${fixture}: ${bug}: ${kind}${expected}${seen ? ` (${seen.how.slice(0, 150)})` : ''}`,
    );
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  if (missed) fail(`${missed} of ${chosen.length} planted bugs went unnoticed, after ${seconds} s`);
  say(`${chosen.length} planted bugs behaved as listed, after ${seconds} s`);
} catch (error) {
  fail(error.message);
}
