// `npm run test:pack`: what a user gets. Prebuilds, packs, installs the tarball into an empty folder where no compiler is on
// PATH and scripts are blocked, and uses it there with Node 20, 22 and 24; then takes the prebuild away, reads the error, builds
// from the sources in the tarball and uses that. `-- --as-is` takes the prebuild that is there.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { fail, output, root, run, say, which } from './util.mjs';

const SIZE_LIMIT = 10 * 2 ** 20;
const NODES = ['22', '24']; // beside the one that runs this
const ALLOWED_LIBRARIES = /^(libc|libm|libdl|librt|libpthread|ld-linux[\w-]*)\.so/;
const EXPORTS = 'napi_register_module_v1 node_api_module_get_api_version_v1';

let passed = 0;
let failed = 0;
let skipped = 0;
function check(what, truth, detail = '') {
  if (truth) passed++;
  else failed++;
  console.log(`${truth ? 'ok    ' : 'FAILED'} ${what}${truth ? '' : `\n${detail}`}`);
}
function skip(what, why) {
  skipped++;
  console.log(`skipped ${what}: ${why}`);
}

const work = mkdtempSync(join(tmpdir(), 'eyrie-pack-'));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));

// ---- pack ----
if (!process.argv.includes('--as-is'))
  run('npm', ['run', 'prebuild'], { env: { EYRIE_CUDA: 'OFF', ...process.env } });
// Without the wish for CUDA: packing brings the checkout up to date as it is, and does not build another side of it.
run('npm', ['pack', '--pack-destination', work], { env: { ...process.env, EYRIE_CUDA: '' } });
const tarball = join(
  work,
  readdirSync(work).find((name) => name.endsWith('.tgz')),
);
const size = statSync(tarball).size;
check(
  `the tarball has ${(size / 2 ** 20).toFixed(2)} MB, at most ${SIZE_LIMIT / 2 ** 20}`,
  size <= SIZE_LIMIT,
);
const names = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).trim().split('\n');
const platform = `${process.platform}-${process.arch}`;
for (const part of [
  /^package\/dist\/index\.(js|d\.ts)$/,
  /^package\/dist\/ops\/index\.js$/,
  new RegExp(`^package/prebuilds/${platform}/eyrie\\..*node$`),
  /^package\/csrc\/ops\.def$/,
  /^package\/CMakeLists\.txt$/,
  /^package\/binding\.gyp$/,
  /^package\/LICENSE$/,
  ...(existsSync(join(root, 'models')) && readdirSync(join(root, 'models')).length
    ? [/^package\/models\//]
    : []),
])
  check(
    `the tarball has ${part.source}`,
    names.some((name) => part.test(name)),
    names.join('\n'),
  );
const stray = names.filter((name) =>
  /\.(test\.ts|tsbuildinfo|o)$|^package\/(test|bench|scripts|build|node_modules)\//.test(name),
);
check('the tarball has no tests, build outputs or scripts', stray.length === 0, stray.join('\n'));

// ---- install: PATH holds node, npm and sh, no compiler ----
const bin = join(work, 'bin');
mkdirSync(bin);
for (const name of ['node', 'npm', 'npx', 'sh']) symlinkSync(realpathSync(which(name)), join(bin, name));
const bare = { ...process.env, PATH: bin, npm_config_ignore_scripts: 'true' };
for (const name of Object.keys(bare)) if (/^(npm_(?!config_)|EYRIE_)/.test(name)) delete bare[name];
const home = join(work, 'home');
mkdirSync(home);
writeFileSync(join(home, 'package.json'), '{"name":"home","version":"1.0.0","private":true}\n');
run('npm', ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', tarball], {
  cwd: home,
  env: bare,
});
const installed = join(home, 'node_modules/eyrie');
const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
const hooks = ['preinstall', 'install', 'postinstall'].filter((name) => manifest.scripts?.[name]);
check('the package has no install script', hooks.length === 0 && manifest.gypfile === false, hooks.join());

// ---- the binary ----
const prebuilds = join(installed, 'prebuilds', platform);
const binary = join(prebuilds, readdirSync(prebuilds)[0]);
if (which('readelf') && which('nm')) {
  const needed = [...output('readelf', ['-d', binary]).matchAll(/NEEDED.*\[(.*)\]/g)].map((m) => m[1]);
  check(
    `the addon needs only ${needed.join(', ')}`,
    needed.every((name) => ALLOWED_LIBRARIES.test(name)),
  );
  const exported = output('nm', ['-D', '--defined-only', '-j', binary]).split('\n').sort().join(' ');
  check('the addon exports only its two N-API symbols', exported === EXPORTS, exported);
  const versions = [...readFileSync(binary, 'latin1').matchAll(/GLIBC_2\.(\d+)/g)].map((m) => Number(m[1]));
  say(`the addon needs glibc 2.${Math.max(...versions)}; a release is built where that is 28`);
} else skip('libraries and symbols of the addon', 'readelf and nm are not here');

// ---- use ----
writeFileSync(
  join(home, 'use.cjs'),
  `const { OPS } = require('eyrie/ops');
   const root = require('eyrie');
   if (OPS.length < 10 || !Object.keys(root).length) throw new Error('require found too little');
   import('./use.mjs');\n`,
);
writeFileSync(
  join(home, 'use.mjs'),
  `import { Worker, isMainThread } from 'node:worker_threads';
   import { Stream, Tensor, add } from 'eyrie/ops';
   import 'eyrie';
   const s = new Stream({ threads: 2 });
   const x = Tensor.from(s, 'f32', [1, 3], new Float32Array([1, 2, 3]));
   const out = add({ x, y: x, alpha: 2 });
   const got = [...(await out.read())].join();
   if (got !== '3,6,9') throw new Error('add gave ' + got);
   if (isMainThread) new Worker(new URL('use.mjs', import.meta.url)).on('exit', (code) => {
     if (code) process.exitCode = code; else console.log('used in both threads');
   });
   x.dispose(); out.dispose(); s.dispose();\n`,
);
function uses(node, label) {
  for (const file of ['use.mjs', 'use.cjs']) {
    const { status, stdout, stderr } = spawnSync(node, [file], {
      cwd: home,
      env: bare,
      encoding: 'utf8',
      timeout: 60_000,
    });
    const how = file.endsWith('.cjs') ? 'require' : 'import';
    check(
      `${label}: ${how}, main thread and worker`,
      status === 0 && /used in both/.test(stdout),
      stdout + stderr,
    );
  }
}

/** The binary of another Node version, from the npm package that is nothing else; null when the registry is out of reach. */
function otherNode(major) {
  const folder = join(root, '.cache/node', major);
  const binary_ = join(folder, `node_modules/n${major}/bin/node`);
  if (!existsSync(binary_)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{"private":true}\n');
    const arch = process.arch === 'x64' ? 'x64' : 'arm64';
    const wanted = `n${major}@npm:node-linux-${arch}@${major}`;
    spawnSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', wanted], {
      cwd: folder,
      stdio: 'inherit',
      timeout: 300_000,
    });
  }
  return existsSync(binary_) ? binary_ : null;
}

const nodes = [[process.execPath, `Node ${process.version}`]];
for (const major of NODES) {
  const node = process.platform === 'linux' ? otherNode(major) : null;
  if (node) nodes.push([node, `Node ${output(node, ['--version'])}`]);
  else skip(`Node ${major}`, 'its npm package could not be installed');
}
for (const [node, label] of nodes) uses(node, label);

if (existsSync(join(installed, 'dist/cli/main.js'))) {
  const { status, stdout, stderr } = spawnSync('npx', ['--no-install', 'eyrie', '--version'], {
    cwd: home,
    env: bare,
    encoding: 'utf8',
  });
  check('npx eyrie --version', status === 0 && stdout.trim().endsWith(manifest.version), stdout + stderr);
} else skip('npx eyrie --version', 'dist/cli/main.js is not there');

// ---- no prebuild fits ----
const tryIt = `import('eyrie/ops').then(({ Stream }) => new Stream()).then(() => console.log('loaded'), (e) => console.log(e.code, e.message))`;
const attempt = (env) => execFileSync(process.execPath, ['-e', tryIt], { cwd: home, env, encoding: 'utf8' });
const musl = attempt({ ...bare, LIBC: 'musl' });
check(
  'on musl the glibc binary is not taken',
  /^EYRIE_NATIVE_LOAD .*do not fit.*npx eyrie build/s.test(musl),
  musl,
);
writeFileSync(binary, 'not a binary');
const cut = attempt(bare);
check(
  'a broken binary is an error that says so',
  /^EYRIE_NATIVE_LOAD .*does not load.*npx eyrie build/s.test(cut),
  cut,
);
rmSync(join(installed, 'prebuilds'), { recursive: true });
const none = attempt(bare);
check(
  'without a binary the error names the command',
  /^EYRIE_NATIVE_LOAD .*has none.*npx eyrie build/s.test(none),
  none,
);

const builder = pathToFileURL(join(installed, 'dist/cli/build.js')).href;
const build = (env) =>
  spawnSync(
    process.execPath,
    [
      '-e',
      `import('${builder}').then((m) => m.buildAddon({ cuda: false })).catch((e) => { console.error(e.code, e.message); process.exit(3); })`,
    ],
    { cwd: home, env, encoding: 'utf8', stdio: ['ignore', 'inherit', 'pipe'], maxBuffer: 1 << 26 },
  );
const without = build(bare);
check(
  'eyrie build without CMake names the package to install',
  without.status === 3 && /EYRIE_NATIVE_LOAD .*CMake was not found.*`cmake`/s.test(without.stderr),
  without.stderr,
);
symlinkSync(realpathSync(which('cmake')), join(bin, 'cmake'));
const noCompiler = build(bare);
check(
  'eyrie build without a compiler names the package to install',
  noCompiler.status === 3 && /EYRIE_NATIVE_LOAD .*no C\+\+ compiler.*`g\+\+`/s.test(noCompiler.stderr),
  noCompiler.stderr,
);
say('building from the sources in the tarball');
const built = build({ ...bare, PATH: `${dirname(process.execPath)}:${process.env.PATH}` });
check('eyrie build builds from the sources in the tarball', built.status === 0, built.stderr?.slice(-4000));
if (built.status === 0) uses(process.execPath, 'built from source');

console.log(`pack: ${passed} passed, ${failed} failed, ${skipped} skipped`);
if (process.env.EYRIE_REPORT) {
  const counts = {
    numPassedTests: passed,
    numFailedTests: failed,
    numPendingTests: skipped,
    numTodoTests: 0,
  };
  writeFileSync(process.env.EYRIE_REPORT, JSON.stringify({ ...counts, testResults: [] })); // as vitest writes it
}
if (failed) fail('the package is not fit to be published');
