// `npm run test:asan`: the addon with AddressSanitizer and UndefinedBehaviorSanitizer, in a folder of its own, under the
// tests that move memory: every op, hostile files, random calls, processes and workers. Other paths may be named instead, and options of vitest.
import { join } from 'node:path';
import { buildAddon, fail, root, runBin, sanitizerEnvironment, say } from './util.mjs';

// Parts of paths, as vitest takes them.
const TESTS = ['test/ops/', 'test/weights/fuzz', 'hostile', 'test/fuzz/', 'test/packaging/'];

const folder = join(root, 'build/asan');
const cxx = process.env.CXX ?? 'g++';
const sanitizers = sanitizerEnvironment(cxx);
if (!sanitizers) {
  say(`skipped: ${cxx} has no libasan.so`);
  process.exit(0);
}
const started = performance.now();
try {
  const addon = buildAddon(folder, ['-DEYRIE_SANITIZE=address,undefined', '-DEYRIE_CUDA=OFF']);
  say(`built after ${((performance.now() - started) / 1000).toFixed(0)} s`);
  const words = process.argv.slice(2);
  const flags = words.filter((word) => word.startsWith('-'));
  const named = words.filter((word) => !word.startsWith('-'));
  const env = {
    EYRIE_FUZZ: '600',
    ...process.env,
    EYRIE_ADDON: addon,
    ...sanitizers,
  };
  runBin(
    'vitest',
    'vitest.mjs',
    ['run', '--testTimeout=600000', ...flags, ...(named.length ? named : TESTS)],
    { env },
  );
  say(`clean after ${((performance.now() - started) / 1000).toFixed(0)} s`);
} catch (error) {
  fail(error.message);
}
