// `npm run check`: everything that can be judged without running the kernels. CI and a pre-commit hook run the same.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './util.mjs';

const bin = (name, script) => join(root, 'node_modules', name, script);
const checks = [
  ['Biome: format and lint', bin('@biomejs/biome', 'bin/biome'), 'check', '--error-on-warnings', '.'],
  ['TypeScript', bin('typescript', 'bin/tsc'), '--noEmit'],
  ['generated files are up to date', 'csrc/gen.mjs', '--check'],
  ['clang-format', 'scripts/format.mjs', '--check'],
  ['structure: layers, op table, error codes', bin('vitest', 'vitest.mjs'), 'run', 'test/structure'],
];

let failed = 0;
for (const [title, ...command] of checks) {
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { cwd: root, encoding: 'utf8' });
  console.log(`${status === 0 ? 'ok    ' : 'FAILED'} ${title}`);
  if (status === 0) continue;
  failed++;
  console.log(`${stdout}${stderr}`);
}
process.exitCode = failed ? 1 : 0;
