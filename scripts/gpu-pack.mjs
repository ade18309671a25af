// `node scripts/gpu-pack.mjs`: fills .gpu/ with what `npm run gpu` needs on a GPU machine that has neither Node nor npm nor a network: the
// binaries that are built here, the records, this Node and the packages that run. There: `bash .gpu/run.sh [options of gpu.mjs]` in a
// copy of the checkout.
//   node scripts/gpu-pack.mjs [--addon FILE] [--gpu-tests FILE]
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { fail, output, root, run, runBin, say } from './util.mjs';

const { values: options } = parseArgs({
  options: {
    addon: { type: 'string', default: join(root, 'build/Release/eyrie.node') },
    'gpu-tests': { type: 'string', default: join(root, 'build/gpu-tests') },
  },
});
// With the tracked files it stays below what is easily sent.
const LIMIT = 48 * 2 ** 20;
const folder = join(root, '.gpu');
const stage = join(root, 'build/gpu-pack');
const megabytes = (n) => `${(n / 2 ** 20).toFixed(1)} MB`;
mkdirSync(folder, { recursive: true });
rmSync(stage, { recursive: true, force: true });
mkdirSync(stage, { recursive: true });

const hash = (...parts) => {
  const h = createHash('sha1');
  for (const part of parts) h.update(part);
  return h.digest('hex');
};

/** Makes .gpu/<name> unless it was made of the same things. */
function cachedFile(name, key, make) {
  const path = join(folder, name);
  const stamp = join(root, 'build', `gpu-pack-${name}.key`);
  if (!existsSync(path) || !existsSync(stamp) || readFileSync(stamp, 'utf8') !== key) {
    make(path);
    writeFileSync(stamp, key);
  }
  say(`${name}: ${megabytes(statSync(path).size)}`);
}

const xz = (level) => `xz -${level} -T${Math.min(2, availableParallelism())} -c`;
const tar = (path, cwd, names, level = 9) =>
  run(
    'bash',
    [
      '-c',
      `set -o pipefail; tar -cf - --sort=name --owner=0 --group=0 ${names.join(' ')} | ${xz(level)} > "$0"`,
      path,
    ],
    {
      cwd,
    },
  );

// ---- Node ----
cachedFile('node.xz', hash(process.execPath, process.version, 'v1'), (path) => {
  const node = join(stage, 'node');
  copyFileSync(process.execPath, node);
  chmodSync(node, 0o755);
  run('strip', [node]);
  run('bash', ['-c', `${xz(9)} "$1" > "$0"`, path, node]);
});

// ---- packages: what vitest and the library import, and what those import ----
const ROOTS = ['vitest', '@huggingface/jinja', 'commander', 'node-gyp-build', 'tokenizers'];
// Vite loads it for style sheets only.
const unused = /^lightningcss/;
const foreign = /\.(android|darwin|win32|freebsd|linux-arm|linux-x64-musl)[\w.-]*\.node$/;
const useless = /\.(d\.[cm]?ts|map|md|markdown|flow)$|\/(LICENSE|CHANGELOG)[^/]*$/i;

function closure() {
  const found = new Map();
  const visit = (name, from) => {
    let at = from;
    let path = null;
    for (;;) {
      const candidate = join(at, 'node_modules', name);
      if (existsSync(join(candidate, 'package.json'))) path = candidate;
      if (path || at === dirname(at)) break;
      at = dirname(at);
    }
    if (!path || found.has(path) || unused.test(name)) return;
    const manifest = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'));
    found.set(path, manifest);
    for (const dependency of Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies }))
      visit(dependency, path);
    for (const peer of Object.keys(manifest.peerDependencies ?? {}))
      if (!manifest.peerDependenciesMeta?.[peer]?.optional) visit(peer, path);
  };
  for (const name of ROOTS) visit(name, root);
  return [...found.keys()];
}

cachedFile(
  'modules.tar.xz',
  hash(readFileSync(join(root, 'package-lock.json')), readFileSync(import.meta.filename)),
  (path) => {
    for (const source of closure()) {
      const relative = source.slice(root.length + 1);
      cpSync(source, join(stage, relative), {
        recursive: true,
        dereference: true,
        filter: (file) => {
          const inside = file.slice(source.length);
          return !inside.startsWith('/node_modules') && !foreign.test(inside) && !useless.test(inside);
        },
      });
    }
    tar(path, stage, ['node_modules']);
  },
);

// ---- what is built here ----
for (const [what, path, how] of [
  ['addon', options.addon, 'EYRIE_CUDA_ARCHS=90a-real npm run build:cuda'],
  [
    'gpu-tests',
    options['gpu-tests'],
    'cmake -S . -B build/gpu-tests-build -DEYRIE_GPU_TESTS=ON -DEYRIE_ADDON_TARGET=OFF -DEYRIE_CUDA_ARCHS=90a-real && cmake --build build/gpu-tests-build',
  ],
  ['record file', join(root, 'build/records/ops.rec'), 'node scripts/record.mjs'],
])
  if (!existsSync(path)) fail(`the ${what} ${path} is not there: ${how}`);
if (existsSync(join(root, 'node_modules/typescript')))
  runBin('typescript', 'bin/tsc', ['-p', 'tsconfig.build.json']);
mkdirSync(join(stage, 'build/Release'), { recursive: true });
copyFileSync(resolve(options.addon), join(stage, 'build/Release/eyrie.node'));
copyFileSync(resolve(options['gpu-tests']), join(stage, 'build/gpu-tests'));
chmodSync(join(stage, 'build/gpu-tests'), 0o755);
const recordFiles = ['ops.rec', 'large.rec']
  .map((name) => join(root, 'build/records', name))
  .filter(existsSync);
cachedFile('records.tar.xz', hash(...recordFiles.map((path) => readFileSync(path))), (path) =>
  tar(
    path,
    root,
    recordFiles.map((file) => `build/records/${basename(file)}`),
  ),
);
cpSync(join(root, 'dist'), join(stage, 'dist'), { recursive: true });
const shared = process.env.EYRIE_SHARED ?? resolve(root, '../shared');
for (const model of ['tiny', 'stories260k']) {
  const source = join(shared, 'models', model);
  if (existsSync(source)) cpSync(source, join(stage, '.gpu/shared/models', model), { recursive: true });
  else say(`without the model ${source}`);
}
const parts = ['build', 'dist', ...(existsSync(join(stage, '.gpu')) ? ['.gpu'] : [])];
tar(join(folder, 'build.tar.xz'), stage, parts, 6);
say(`build.tar.xz: ${megabytes(statSync(join(folder, 'build.tar.xz')).size)}`);
writeFileSync(
  join(folder, 'commit'),
  `${output('git', ['describe', '--always', '--dirty', '--abbrev=10']) ?? 'unknown'}\n`,
);

writeFileSync(
  join(folder, 'run.sh'),
  `#!/usr/bin/env bash
# Written by scripts/gpu-pack.mjs: unpacks what it packed into this copy of the checkout and runs scripts/gpu.mjs.
set -euo pipefail
cd "$(dirname "\${BASH_SOURCE[0]}")/.."
unpack() { if command -v xz >/dev/null; then xz -dc "$1"; else python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"; fi; }
mkdir -p .gpu/bin
[ -x .gpu/bin/node ] || { unpack .gpu/node.xz >.gpu/bin/node.new && chmod +x .gpu/bin/node.new && mv .gpu/bin/node.new .gpu/bin/node; }
[ -e node_modules ] || unpack .gpu/modules.tar.xz | tar -xf -
unpack .gpu/build.tar.xz | tar -xf -
[ -e build/records ] || unpack .gpu/records.tar.xz | tar -xf -
export PATH="$PWD/.gpu/bin:$PATH" OUT="\${OUT:-build/gpu-out}" EYRIE_COMMIT="$(cat .gpu/commit)"
if [ -d .gpu/shared ]; then export EYRIE_SHARED="$PWD/.gpu/shared"; fi
exec node scripts/gpu.mjs --no-build "$@"
`,
  { mode: 0o755 },
);
const total = readdirSync(folder)
  .filter((name) => statSync(join(folder, name)).isFile())
  .reduce((n, name) => n + statSync(join(folder, name)).size, 0);
say(`.gpu: ${megabytes(total)}`);
if (total > LIMIT)
  fail(`.gpu may have ${megabytes(LIMIT)} at most: take fewer records (scripts/record.mjs --mb N)`);
