// `npm run format`: Biome over the TypeScript and JavaScript, clang-format over csrc. `--check` judges csrc only and writes
// nothing (Biome has its own check). The version is pinned in package.json: another one formats differently.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fail, root, runBin } from './util.mjs';

const check = process.argv.includes('--check');
const sources = readdirSync(join(root, 'csrc'), { recursive: true })
  .filter((name) => /\.(h|cc|cu|cuh)$/.test(name) && !name.endsWith('.gen.h'))
  .map((name) => join('csrc', name))
  .sort();
try {
  runBin('clang-format-node', 'build/cli.js', [...(check ? ['--dry-run', '-Werror'] : ['-i']), ...sources]);
  if (!check) runBin('@biomejs/biome', 'bin/biome', ['check', '--write', '.']);
} catch {
  fail(check ? 'csrc is not formatted: run `npm run format`' : 'formatting failed');
}
