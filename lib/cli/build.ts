import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EyrieError } from '../errors.ts';

// lib/cli/build.ts and dist/cli/build.js lie equally deep.
const root: string = fileURLToPath(new URL('../..', import.meta.url));

export interface BuildOptions {
  /** Whether to compile the CUDA backend in. @default when a GPU and nvcc are on this machine */
  cuda?: boolean;
  /** Receives the output of CMake and the compiler. @default the terminal's standard error */
  log?: (text: string) => void;
}

/**
 * Builds the addon from the sources in the package into its build/Release, where the loader looks first. The environment
 * variable EYRIE_CUDA_ARCHS shortens the list of CUDA architectures, CXX and CUDACXX name the compilers.
 * @throws EyrieError EYRIE_NATIVE_LOAD naming the tool that is missing, or with the last lines of a build that failed
 */
export async function buildAddon(options: BuildOptions = {}): Promise<void> {
  const log = options.log ?? ((text: string) => void process.stderr.write(text));
  requireTools();
  const cuda = options.cuda ?? (hasGpu() && nvcc() !== null);
  if (cuda && !nvcc()) {
    throw lacking('nvcc was not found', 'Install the CUDA toolkit (12.8 or newer) or set CUDACXX to nvcc.');
  }
  const folder = join(root, 'build/cmake');
  rmSync(join(folder, 'CMakeCache.txt'), { force: true }); // options of an earlier try must not linger
  await run(log, 'cmake', [
    ...['-S', root, '-B', folder],
    ...(which('ninja') && !existsSync(join(folder, 'Makefile')) ? ['-G', 'Ninja'] : []),
    '-DCMAKE_BUILD_TYPE=Release',
    `-DNODE_EXE=${process.execPath}`,
    `-DEYRIE_CUDA=${cuda ? 'ON' : 'OFF'}`,
    `-DEYRIE_CUDA_ARCHS=${process.env.EYRIE_CUDA_ARCHS ?? ''}`,
  ]);
  await run(log, 'cmake', ['--build', folder, '--parallel', String(availableParallelism())]);
  await tryToLoad(join(root, 'build/Release/eyrie.node'));
}

function requireTools(): void {
  try {
    accessSync(root, constants.W_OK);
  } catch (cause) {
    throw lacking(`the package folder ${root} cannot be written`, 'Run this as its owner.', cause);
  }
  if (!existsSync(join(root, 'csrc'))) {
    throw lacking(`the sources are not in ${root}`, 'Install the package again, unbundled.');
  }
  const version = /cmake version (\d+)\.(\d+)/.exec(
    spawnSync('cmake', ['--version'], { encoding: 'utf8' }).stdout ?? '',
  );
  if (!version) {
    throw lacking(
      'CMake was not found',
      'Install the package `cmake`, 3.25 or newer (Debian and Ubuntu: apt install cmake; Fedora: dnf install cmake; or pip install cmake).',
    );
  }
  if (Number(version[1]) < 3 || (version[1] === '3' && Number(version[2]) < 25)) {
    throw lacking(
      `CMake is too old: ${version[0]}`,
      'Version 3.25 or newer is needed; pip install cmake has one.',
    );
  }
  if (!process.env.CXX && !['c++', 'g++', 'clang++'].some((name) => which(name))) {
    throw lacking(
      'no C++ compiler was found',
      'Install the package `g++`, 12 or newer (Debian and Ubuntu: apt install g++ make; Fedora: dnf install gcc-c++ make), or set CXX.',
    );
  }
  if (!which('ninja') && !which('make')) {
    throw lacking('neither ninja nor make was found', 'Install the package `ninja-build` or `make`.');
  }
}

/** Loads the new addon in another process, where a crash would be harmless. */
async function tryToLoad(addon: string): Promise<void> {
  let printed = '';
  const code = `const a = require(${JSON.stringify(addon)}); process.exit(a.schema().length > 0 ? 0 : 1)`;
  try {
    await run(
      (text) => {
        printed += text;
      },
      process.execPath,
      ['-e', code],
    );
  } catch (cause) {
    throw lacking(`the addon was built, but does not load: ${printed.trim()}`, `It lies at ${addon}.`, cause);
  }
}

function lacking(what: string, next: string, cause?: unknown): EyrieError {
  return new EyrieError('EYRIE_NATIVE_LOAD', `eyrie build: ${what}. ${next}`, { cause });
}

/** Runs a program, its output going to `log` as it comes. */
function run(log: (text: string) => void, program: string, args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let last = '';
    const take = (text: string): void => {
      log(text);
      last = (last + text).slice(-4000);
    };
    child.stdout.setEncoding('utf8').on('data', take);
    child.stderr.setEncoding('utf8').on('data', take);
    child.on('error', (cause) => reject(lacking(`${program} did not start`, 'Is it on PATH?', cause)));
    child.on('close', (code, signal) => {
      if (code === 0) resolve();
      else
        reject(lacking(`${program} ended with ${signal ?? `exit code ${code}`}`, `Its last lines:\n${last}`));
    });
  });
}

function which(name: string): string | null {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    if (folder && existsSync(join(folder, name))) return join(folder, name);
  }
  return null;
}

function nvcc(): string | null {
  return process.env.CUDACXX ?? which('nvcc') ?? ['/usr/local/cuda/bin/nvcc'].find(existsSync) ?? null;
}

function hasGpu(): boolean {
  return existsSync('/dev/nvidiactl') || spawnSync('nvidia-smi', ['-L']).status === 0;
}
