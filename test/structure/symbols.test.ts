import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');
const LEVELS = ['baseline', 'avx2', 'avx512', 'avx512_bf16'];

/** The newest build folder that has objects of the CPU levels. */
const build = ['build/cmake-js', 'build/cmake-js-cuda', 'build/cmake']
  .map((folder) => join(root, folder, 'CMakeFiles'))
  .filter((folder) => existsSync(join(folder, 'cpu_baseline.dir')))
  .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];

const hasNm = spawnSync('nm', ['--version']).status === 0;
const reason = !build ? 'no objects of a build are here' : hasNm ? null : 'nm is not here';

// A function that two levels share becomes one weak symbol, and the linker may keep the AVX-512 copy for every processor.
describe('kernels of a level share no code with another one', () => {
  for (const level of LEVELS) {
    it.skipIf(reason !== null)(
      `cpu_${level} defines no weak symbol${reason ? ` (skipped: ${reason})` : ''}`,
      () => {
        const folder = join(build!, `cpu_${level}.dir/csrc/cpu`);
        const objects = readdirSync(folder).filter((name) => name.endsWith('.o'));
        expect(objects.length).toBeGreaterThan(level === 'avx512_bf16' ? 1 : 5);
        const { stdout } = spawnSync('nm', ['-C', '--defined-only', '-A', ...objects], {
          cwd: folder,
          encoding: 'utf8',
          maxBuffer: 1 << 26,
        });
        expect(stdout.split('\n').filter((line) => /:[0-9a-f]+ [WVu] /.test(line))).toEqual([]);
      },
    );

    it.skipIf(reason !== null)(`cpu_${level} defines its kernels in its own namespace`, () => {
      const folder = join(build!, `cpu_${level}.dir/csrc/cpu`);
      const objects = readdirSync(folder).filter((name) => name.endsWith('.o'));
      const { stdout } = spawnSync('nm', ['-C', '--defined-only', '-g', '-A', ...objects], {
        cwd: folder,
        encoding: 'utf8',
        maxBuffer: 1 << 26,
      });
      const shared = stdout.split('\n').filter((line) => line && !line.includes(` eyrie::cpu::${level}::`));
      expect(shared).toEqual([]);
    });
  }
});
