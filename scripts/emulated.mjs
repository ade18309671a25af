// `npm run test:emulated`: the CUDA kernels on the CPU (csrc/emulation), in an addon of its own, under the tests of every op and of
// whole models. Other paths may be named instead, and options of vitest; --build only builds, and prints where the addon is.
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fail, root, run, runBin, say, which } from './util.mjs';

const TESTS = ['test/ops', 'test/cuda'];
const folder = join(root, 'build/emulated-cuda');

try {
  if (!existsSync(join(folder, 'CMakeCache.txt')))
    run('cmake', [
      ...['-S', root, '-B', folder, ...(which('ninja') ? ['-G', 'Ninja'] : [])],
      '-DEYRIE_EMULATE_CUDA=ON',
      `-DEYRIE_OUTPUT_DIR=${join(folder, 'out')}`,
    ]);
  run('cmake', ['--build', folder, '--parallel', String(availableParallelism())]);
  const addon = join(folder, 'out/eyrie.node');
  const words = process.argv.slice(2);
  if (words.includes('--build')) {
    say(addon);
  } else {
    const named = words.filter((word) => !word.startsWith('-'));
    const flags = words.filter((word) => word.startsWith('-'));
    const env = { ...process.env, EYRIE_ADDON: addon, EYRIE_TEST_DEVICES: 'cuda' };
    runBin('vitest', 'vitest.mjs', ['run', ...flags, ...(named.length ? named : TESTS)], { env });
  }
} catch (error) {
  fail(error.message);
}
