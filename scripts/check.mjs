// `npm run check`: everything that can be judged without running the kernels. CI and a pre-commit hook run the same.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
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

// A file that grows past this is worth a second look; it is no error.
const PAUSE = 400;
for (const folder of ['lib', 'csrc']) {
  for (const name of readdirSync(join(root, folder), { recursive: true })) {
    if (!/\.(ts|mjs|h|cc|cu|cuh)$/.test(name) || /\.gen\./.test(name)) continue;
    const lines = readFileSync(join(root, folder, name), 'utf8').split('\n').length - 1;
    if (lines > PAUSE) console.log(`note   ${folder}/${name} has ${lines} lines`);
  }
}
process.exitCode = failed ? 1 : 0;
