// `npm run prebuild`: fills prebuilds/<platform>-<arch>/ with the addon that is shipped, through prebuildify, node-gyp and
// binding.gyp. With CUDA when nvcc is found (EYRIE_CUDA=OFF: without). Works offline: node-gyp gets a stand-in for Node's
// headers, since the bridge compiles nothing itself and CMake takes the package node-api-headers.
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fail, output, root, runBin, say, which } from './util.mjs';

// node-gyp's `rebuild` deletes build/, and prebuildify moves the addon out of it: both happen in a copy of the sources.
const stage = join(root, 'build/prebuild');
rmSync(stage, { recursive: true, force: true });
mkdirSync(stage, { recursive: true });
for (const name of ['package.json', 'binding.gyp', 'CMakeLists.txt', 'csrc'])
  cpSync(join(root, name), join(stage, name), { recursive: true, preserveTimestamps: true });

const headers = join(stage, 'headers/include/node');
mkdirSync(headers, { recursive: true });
writeFileSync(
  join(headers, 'common.gypi'),
  "{ 'target_defaults': { 'configurations': { 'Debug': {}, 'Release': {} } } }\n",
);
writeFileSync(join(headers, 'config.gypi'), "{ 'variables': {} }\n");

if (!which('node-gyp')) fail('node-gyp is not on PATH: start this by `npm run prebuild`, npm carries one');
const env = { ...process.env, npm_config_nodedir: join(stage, 'headers') };
if (which('ninja')) env.CMAKE_GENERATOR ??= 'Ninja';
const options = ['--napi', '--strip', '--tag-libc', '-t', '20.19.0', '--cwd', stage, '--out', root];
try {
  rmSync(join(root, 'prebuilds', `${process.platform}-${process.arch}`), { recursive: true, force: true });
  runBin('prebuildify', 'bin.js', options, { env });
} catch (error) {
  fail(error.message);
}
say(`prebuilt:\n${output('ls', ['-l', join(root, 'prebuilds', `${process.platform}-${process.arch}`)])}`);
