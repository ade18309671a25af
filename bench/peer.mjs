// The peer is no dependency of the package: the benchmark installs it into a folder of its own, which git ignores.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './report.mjs';

const VERSION = '3.22.1';
const folder = join(root, 'bench/peers/node-llama-cpp');

/** Binaries for the CPU alone: the package's own choice is some 650 MB of builds for GPUs. */
function binaries() {
  const arch = { x64: 'x64', arm64: 'arm64' }[process.arch];
  const names = {
    linux: `linux-${arch}`,
    win32: `win-${arch}`,
    darwin: arch === 'arm64' ? 'mac-arm64-metal' : 'mac-x64',
  };
  return `@node-llama-cpp/${names[process.platform]}`;
}

/** Installs what is not there yet. @returns {{ name: string, version: string, entry: string } | { error: string }} */
export function installPeer() {
  const home = join(folder, 'node_modules/node-llama-cpp');
  const installed = () =>
    existsSync(join(home, 'package.json')) &&
    JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')).version;
  if (installed() !== VERSION) {
    console.log(`installing node-llama-cpp ${VERSION} into bench/peers …`);
    mkdirSync(folder, { recursive: true });
    // A package.json of its own, or npm would install into ours.
    writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');
    const packages = [`node-llama-cpp@${VERSION}`, `${binaries()}@${VERSION}`];
    // Without scripts: the package's own one would compile where its binary does not load.
    const args = ['install', '--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund', ...packages];
    const { status, stderr, error } = spawnSync('npm', args, {
      cwd: folder,
      encoding: 'utf8',
      shell: process.platform === 'win32',
    });
    if (status !== 0)
      return { error: `npm install failed: ${(error?.message ?? stderr ?? '').trim().split('\n')[0]}` };
  }
  return { name: 'node-llama-cpp', version: VERSION, entry: join(home, 'dist/index.js') };
}
