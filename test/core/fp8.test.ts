import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');
const cxx = process.env.CXX ?? 'g++';
const here = spawnSync(cxx, ['--version']).status === 0;

/** csrc/core/fp8.h by itself: test/core/fp8_test.cc, with floats as they are and with subnormal ones flushed. */
for (const flags of [['-O1'], ['-O2', '-ffast-math', '-fno-finite-math-only', '-fsigned-zeros']]) {
  it.skipIf(!here)(
    `e4m3 there and back, every value, ${flags.join(' ')}${here ? '' : ` (${cxx} is not here)`}`,
    {
      timeout: 120_000,
    },
    () => {
      const folder = join(root, 'build/core-tests');
      mkdirSync(folder, { recursive: true });
      const program = join(folder, `fp8${flags.length}`);
      const source = join(root, 'test/core/fp8_test.cc');
      const built = spawnSync(
        cxx,
        ['-std=c++20', ...flags, `-I${join(root, 'csrc')}`, source, '-o', program],
        {
          encoding: 'utf8',
        },
      );
      expect(built.status, built.stderr).toBe(0);
      const { status, stdout } = spawnSync(program, {
        encoding: 'utf8',
        env: { ...process.env, LD_PRELOAD: '' },
      });
      expect(stdout).toBe('0 failures\n');
      expect(status).toBe(0);
    },
  );
}
