// `npm run test:asan`: the addon with AddressSanitizer and UndefinedBehaviorSanitizer, in a folder of its own, under the
// tests that move memory: every op, hostile files, random calls, processes and workers. Other paths may be named instead, and options of vitest.
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fail, output, root, run, runBin, say, which } from './util.mjs';

// Parts of paths, as vitest takes them.
const TESTS = ['test/ops/', 'test/weights/fuzz', 'hostile', 'test/fuzz/', 'test/packaging/'];

const folder = join(root, 'build/asan');
const cxx = process.env.CXX ?? 'g++';
const library = output(cxx, ['-print-file-name=libasan.so']);
if (!library || !existsSync(library)) {
  say(`skipped: ${cxx} has no libasan.so`);
  process.exit(0);
}
const started = performance.now();
try {
  if (!existsSync(join(folder, 'CMakeCache.txt')))
    run('cmake', [
      ...['-S', root, '-B', folder, ...(which('ninja') ? ['-G', 'Ninja'] : [])],
      '-DEYRIE_SANITIZE=address,undefined',
      '-DEYRIE_CUDA=OFF',
      `-DEYRIE_OUTPUT_DIR=${join(folder, 'out')}`,
    ]);
  run('cmake', ['--build', folder, '--parallel', String(availableParallelism())]);
  say(`built after ${((performance.now() - started) / 1000).toFixed(0)} s`);
  const words = process.argv.slice(2);
  const flags = words.filter((word) => word.startsWith('-'));
  const named = words.filter((word) => !word.startsWith('-'));
  const env = {
    EYRIE_FUZZ: '600',
    ...process.env,
    EYRIE_ADDON: join(folder, 'out/eyrie.node'),
    // libstdc++ too: without it, an exception thrown by the addon is unknown to the interceptors.
    LD_PRELOAD: `${library} ${output(cxx, ['-print-file-name=libstdc++.so.6'])}`,
    ASAN_OPTIONS: 'detect_leaks=0:detect_stack_use_after_return=1',
    UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
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
