// `npm run test:emulated`: the CUDA kernels on the CPU (csrc/emulation), in an addon of its own, under the tests of every op and of
// whole models. Other paths may be named instead, and options of vitest; --build only builds, and prints where the addon is; --asan
// builds it with AddressSanitizer and UndefinedBehaviorSanitizer, in another folder, and takes fewer tests.
import { join } from 'node:path';
import { missing } from './native.mjs';
import { buildAddon, fail, root, runBin, sanitizerEnvironment, say } from './util.mjs';

const TESTS = ['test/ops', 'test/cuda', 'test/models/golden'];
const ASAN_TESTS = ['test/ops', 'test/fuzz/calls'];
const words = process.argv.slice(2);
const asan = words.includes('--asan');
const folder = join(root, asan ? 'build/emulated-cuda-asan' : 'build/emulated-cuda');

const lacks = missing();
const sanitizers = asan ? sanitizerEnvironment(process.env.CXX ?? 'g++') : {};
if (lacks || !sanitizers) {
  say(`skipped: ${lacks ?? 'the compiler has no libasan.so'}`);
  process.exit(0);
}
try {
  const addon = buildAddon(folder, [
    ...(asan ? ['-DEYRIE_SANITIZE=address,undefined'] : []),
    '-DEYRIE_EMULATE_CUDA=ON',
  ]);
  if (words.includes('--build')) {
    say(addon);
  } else {
    const rest = words.filter((word) => word !== '--asan');
    const named = rest.some((word, i) => !word.startsWith('-') && rest[i - 1] !== '-t');
    const tests = named ? [] : asan ? ASAN_TESTS : TESTS;
    if (asan) tests.push('--testTimeout=600000');
    const env = { ...process.env, EYRIE_ADDON: addon, EYRIE_TEST_DEVICES: 'cuda', ...sanitizers };
    runBin('vitest', 'vitest.mjs', ['run', ...rest, ...tests], { env });
  }
} catch (error) {
  fail(error.message);
}
