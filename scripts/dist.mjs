// `npm run build:ts`: lib into dist. Types come from tsc, one file a module; the JavaScript is bundled, since every module that Node has
// to find, read and link on its own costs memory and time before the first token.
//   node scripts/dist.mjs [--no-types]
import { chmodSync, existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { rolldown } from 'rolldown';
import { fail, root, runBin } from './util.mjs';

// What the package exports, its command, what the command's tests import, and what benchmarks reach into.
const ENTRIES = ['index', 'ops/index', 'cli/main', 'cli/build', 'internals'];

async function bundle() {
  const build = await rolldown({
    input: Object.fromEntries(ENTRIES.map((name) => [name, join(root, 'lib', `${name}.ts`)])),
    platform: 'node',
    external: [/^node:/, /^[^./]/], // the dependencies stay what npm installs
    treeshake: true,
  });
  const folder = join(root, 'dist');
  // Chunks lie as deep as the files they are made of: the root of the package is two folders above each of them.
  const { output } = await build.write({
    dir: folder,
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: 'chunks/[name]-[hash].js',
    comments: false,
  });
  await build.close();
  const made = new Set(output.map(({ fileName }) => fileName));
  for (const name of readdirSync(folder, { recursive: true }))
    if (/\.js(\.map)?$/.test(name) && !made.has(name)) rmSync(join(folder, name));
  // npx makes it executable only when it first links this folder: a later clone to the same place would not run.
  chmodSync(join(folder, 'cli/main.js'), 0o755);
}

/** Brings dist up to date. `types`: the declarations too. */
export async function buildDist({ types = true } = {}) {
  if (types) {
    const info = join(root, 'dist/.tsbuildinfo');
    if (!existsSync(join(root, 'dist/index.d.ts'))) rmSync(info, { force: true });
    runBin('typescript', 'bin/tsc', [
      '-p',
      'tsconfig.build.json',
      '--incremental',
      '--tsBuildInfoFile',
      info,
    ]);
  }
  await bundle();
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({ options: { 'no-types': { type: 'boolean', default: false } } });
  await buildDist({ types: !values['no-types'] }).catch((error) => fail(error.message));
}
