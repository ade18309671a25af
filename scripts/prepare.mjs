// `npm install` in a checkout ends here, and `npm test` begins here: builds what is out of date, the addon and the JavaScript.
// CUDA is built when EYRIE_CUDA=ON asks for it, when the addon that is there has it, or when a GPU and nvcc are here.
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import load from 'node-gyp-build';
import { buildDist } from './dist.mjs';
import { buildNative, builtWithCuda, missing } from './native.mjs';
import { fail, gpu, nvcc, root, say } from './util.mjs';

const started = performance.now();

function wantsCuda() {
  const asked = process.env.EYRIE_CUDA?.toUpperCase();
  if (asked === 'ON') {
    if (!nvcc()) fail('EYRIE_CUDA=ON, but nvcc was not found: install the CUDA toolkit or set CUDACXX');
    return true;
  }
  if (asked === 'OFF') return false;
  return builtWithCuda() ?? (gpu() && nvcc() !== null);
}

function prebuilt() {
  try {
    return load.path(root);
  } catch {
    return null;
  }
}

try {
  const lacks = missing();
  const binary = lacks ? prebuilt() : null;
  if (binary) {
    say(`${lacks}; using ${binary}`);
  } else {
    const cuda = wantsCuda();
    const first = builtWithCuda() === null;
    say(`building the addon${cuda ? ' with CUDA' : ''}${first ? ', a few minutes the first time' : ''}`);
    buildNative({ cuda, archs: process.env.EYRIE_CUDA_ARCHS ?? null });
  }
  if (process.env.npm_command === 'pack' || process.env.npm_command === 'publish')
    rmSync(join(root, 'dist'), { recursive: true, force: true }); // nothing of a deleted source is shipped
  if (existsSync(join(root, 'lib'))) {
    say('building the JavaScript');
    await buildDist();
  }
  say(`ready after ${((performance.now() - started) / 1000).toFixed(1)} s`);
} catch (error) {
  fail(error.message);
}
