// `npm run test:amx`: the tests of the amx level on a machine without AMX. Its tiles are then software (csrc/cpu/simd/amx_unit.h), in an addon of its own; the
// rest of the level needs AVX-512. Every product and a whole generation must have the bits of the other levels. Where the processor has AMX, `npm test` runs
// the real thing and this does nothing. Other paths may be named instead, and options of vitest; EYRIE_SANITIZE=address,undefined looks at every access.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildAddon, fail, root, runBin, sanitizerEnvironment, say } from './util.mjs';

const TESTS = [
  'test/ops/linear.test.ts',
  'test/ops/blocks.test.ts',
  'test/ops/fused.test.ts',
  'test/engine/levels.test.ts',
];
const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.split(' ') ?? [];

if (flags.includes('amx_bf16')) {
  say('skipped: this processor has AMX, so `npm test` tests the level itself');
} else if (!flags.includes('avx512vl')) {
  say('skipped: this processor has no AVX-512, which the level uses beside tiles');
} else {
  const sanitize = process.env.EYRIE_SANITIZE;
  const folder = join(root, sanitize ? 'build/amx-sanitized' : 'build/amx');
  try {
    const addon = buildAddon(folder, ['-DEYRIE_EMULATE_AMX=ON', '-DEYRIE_CUDA=OFF']);
    const words = process.argv.slice(2);
    const named = words.filter((word) => !word.startsWith('-'));
    const env = {
      ...process.env,
      EYRIE_ADDON: addon,
      ...(sanitize && sanitizerEnvironment(process.env.CXX ?? 'g++')),
    };
    const options = words.filter((word) => word.startsWith('-'));
    runBin('vitest', 'vitest.mjs', ['run', '-t', 'amx', ...options, ...(named.length ? named : TESTS)], {
      env,
    });
  } catch (error) {
    fail(error.message);
  }
}
