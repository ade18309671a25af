// What the scripts share.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package folder. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Prints a line that stands out from what the tools print. */
export function say(text) {
  console.log(`eyrie: ${text}`);
}

/** Ends the script with a message and no stack: for what the reader can mend. */
export function fail(text) {
  console.error(`eyrie: ${text}`);
  process.exit(1);
}

/** The first file called `name` on PATH, or null. */
export function which(name) {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    if (folder && existsSync(join(folder, name))) return join(folder, name);
  }
  return null;
}

/** Runs a program in the foreground; throws when it does not exit with 0. */
export function run(program, args, options = {}) {
  const { status, signal, error } = spawnSync(program, args, { cwd: root, stdio: 'inherit', ...options });
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${signal ?? `exit code ${status}`}`);
}

/** What a program prints, or null when it does not exist or fails. */
export function output(program, args, options = {}) {
  const { status, stdout } = spawnSync(program, args, { cwd: root, encoding: 'utf8', ...options });
  return status === 0 ? stdout.trim() : null;
}

/** Runs the command of an npm package of this checkout. */
export function runBin(name, script, args, options) {
  run(process.execPath, [join(root, 'node_modules', name, script), ...args], options);
}

export function nvcc() {
  return process.env.CUDACXX ?? which('nvcc') ?? ['/usr/local/cuda/bin/nvcc'].find(existsSync) ?? null;
}

/** Whether an NVIDIA GPU is here: a driver's device node, or nvidia-smi that lists one. */
export function gpu() {
  return existsSync('/dev/nvidiactl') || Boolean(output('nvidia-smi', ['-L']));
}

/** What an addon with sanitizers needs in the environment of Node; null when the compiler has no libasan.so. */
export function sanitizerEnvironment(cxx) {
  const library = output(cxx, ['-print-file-name=libasan.so']);
  if (!library || !existsSync(library)) return null;
  return {
    // libstdc++ too: without it, an exception thrown by the addon is unknown to the interceptors.
    LD_PRELOAD: `${library} ${output(cxx, ['-print-file-name=libstdc++.so.6'])}`,
    ASAN_OPTIONS: 'detect_leaks=0:detect_stack_use_after_return=1',
    UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
  };
}

/** The value of an entry in a CMakeCache.txt, or null. */
export function cached(folder, name) {
  const path = join(folder, 'CMakeCache.txt');
  if (!existsSync(path)) return null;
  return new RegExp(`^${name}:[A-Z]+=(.*)$`, 'm').exec(readFileSync(path, 'utf8'))?.[1] ?? null;
}

/** Builds an addon of its own in a folder, configured once with CMake's `options`. @returns {string} its path */
export function buildAddon(folder, options) {
  const out = join(folder, 'out');
  if (!existsSync(join(folder, 'CMakeCache.txt'))) {
    const generator = which('ninja') ? ['-G', 'Ninja'] : [];
    run('cmake', ['-S', root, '-B', folder, ...generator, ...options, `-DEYRIE_OUTPUT_DIR=${out}`]);
  }
  run('cmake', ['--build', folder, '--parallel', String(availableParallelism())]);
  return join(out, 'eyrie.node');
}
