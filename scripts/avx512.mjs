// `npm run test:avx512`: the tests of the avx512 level on a machine without AVX-512. The level is compiled in terms of AVX2 (SIMDe, Debian's
// libsimde-dev) into an addon of its own; every op and a whole generation must then have the bits of AVX2. Where the processor has
// AVX-512, `npm test` runs the real thing and this does nothing. Other paths may be named instead, and options of vitest.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildAddon, fail, root, runBin, say } from './util.mjs';

const TESTS = ['test/ops', 'test/engine/invariance.test.ts', 'test/models/golden.test.ts'];
const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.split(' ') ?? [];

if (flags.includes('avx512vl')) {
  say('skipped: this processor has AVX-512, so `npm test` tests the level itself');
} else if (!flags.includes('avx2')) {
  say('skipped: this processor has no AVX2 to express AVX-512 in');
} else if (!existsSync('/usr/include/simde/x86/avx512.h')) {
  say('skipped: SIMDe is not installed (Debian: apt-get install libsimde-dev)');
} else {
  const folder = join(root, 'build/emulated');
  try {
    const addon = buildAddon(folder, ['-DEYRIE_EMULATE_AVX512=ON', '-DEYRIE_CUDA=OFF']);
    const words = process.argv.slice(2);
    const named = words.filter((word) => !word.startsWith('-'));
    const env = { ...process.env, EYRIE_ADDON: addon };
    runBin(
      'vitest',
      'vitest.mjs',
      ['run', '-t', 'avx512', ...words.filter((w) => w.startsWith('-')), ...(named.length ? named : TESTS)],
      { env },
    );
  } catch (error) {
    fail(error.message);
  }
}
