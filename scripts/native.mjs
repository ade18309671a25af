// Builds the addon of a checkout into build/Release/eyrie.node, through cmake-js. With and without CUDA are separate build
// folders, so that changing sides costs one link. `node scripts/native.mjs [--cuda]`; EYRIE_CUDA_ARCHS=80-real shortens --cuda.
import { existsSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { cached, fail, root, runBin, say, which } from './util.mjs';

const addon = join(root, 'build/Release/eyrie.node');
// Which build folder the addon came from: the linker of the other one would take it for its own.
const origin = join(root, 'build/Release/.origin');

const folderOf = (cuda) => (cuda ? 'build/cmake-js-cuda' : 'build/cmake-js');

/** Whether the addon that is there was built with CUDA; null when none is there. */
export function builtWithCuda() {
  if (!existsSync(addon) || !existsSync(origin)) return null;
  return readFileSync(origin, 'utf8') === folderOf(true);
}

/** What a build needs and this machine lacks, as a sentence; null when all is there. */
export function missing() {
  if (!which('cmake'))
    return 'CMake (3.25 or newer) was not found: install the package `cmake` (Debian, Fedora, Homebrew, PyPI)';
  if (!process.env.CXX && !['c++', 'g++', 'clang++'].some(which))
    return 'no C++ compiler was found: install `g++` (12 or newer) or `clang`, or set CXX';
  return null;
}

/** Builds what is out of date. `archs` null: as the folder was configured. */
export function buildNative({ cuda, archs }) {
  const lacks = missing();
  if (lacks) fail(`the native addon cannot be built: ${lacks}`);
  const name = folderOf(cuda);
  const folder = join(root, name);
  const generated = existsSync(join(folder, 'build.ninja')) || existsSync(join(folder, 'Makefile'));
  // A configuration that failed leaves a cache, which cmake-js would take for a finished one.
  if (!generated) rmSync(folder, { recursive: true, force: true });
  const wanted = {
    EYRIE_CUDA: cuda ? 'ON' : 'OFF',
    EYRIE_CUDA_ARCHS: archs ?? cached(folder, 'EYRIE_CUDA_ARCHS') ?? '',
  };
  const options = ['-O', name, '-p', String(availableParallelism())];
  for (const [key, value] of Object.entries(wanted)) options.push(`--CD${key}=${value}`);
  if (generated && Object.entries(wanted).some(([key, value]) => cached(folder, key) !== value))
    runBin('cmake-js', 'bin/cmake-js', ['configure', ...options]);
  // Linked last, so the addon of the other side stays usable until then.
  const exports = join(folder, 'exports.map');
  if (existsSync(exports) && existsSync(origin) && readFileSync(origin, 'utf8') !== name)
    utimesSync(exports, new Date(), new Date());
  runBin('cmake-js', 'bin/cmake-js', ['build', ...options]);
  mkdirSync(join(root, 'build/Release'), { recursive: true });
  writeFileSync(origin, name);
}

if (process.argv[1] === import.meta.filename) {
  const cuda = process.argv.includes('--cuda');
  try {
    buildNative({ cuda, archs: process.env.EYRIE_CUDA_ARCHS ?? '' });
  } catch (error) {
    fail(error.message);
  }
  say(`build/Release/eyrie.node is ready${cuda ? ', with CUDA' : ''}`);
}
