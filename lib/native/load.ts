import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import load from 'node-gyp-build';
import { type ErrorCode, EyrieError } from '../errors.ts';
import type { Addon } from './addon.ts';

// lib/native/load.ts and dist/native/load.js lie equally deep.
const root: string = fileURLToPath(new URL('../..', import.meta.url));
let addon: Addon | undefined;

/**
 * The native addon, loaded at the first call: a build of this checkout, else a prebuilt binary of the package.
 * `EYRIE_ADDON` names a file to load instead (sanitizer builds).
 * @throws EyrieError EYRIE_NATIVE_LOAD saying why nothing fits and which command builds one
 */
export function native(): Addon {
  if (addon) return addon;
  addon = find();
  addon.onError((code, message) => new EyrieError(code as ErrorCode, message));
  return addon;
}

function find(): Addon {
  const forced = process.env.EYRIE_ADDON;
  if (forced) {
    try {
      return createRequire(import.meta.url)(forced) as Addon;
    } catch (cause) {
      const reason = `EYRIE_ADDON names ${forced}, which does not load: ${firstLine(cause)}`;
      throw new EyrieError('EYRIE_NATIVE_LOAD', `${reason}\nUnset it to use the addon of the package.`, {
        cause,
      });
    }
  }
  try {
    return load(root) as Addon;
  } catch (cause) {
    throw new EyrieError('EYRIE_NATIVE_LOAD', `${diagnose(cause)}\n${remedy()}`, { cause });
  }
}

/** Why no binary could be loaded. */
function diagnose(cause: unknown): string {
  const reason = firstLine(cause);
  const platform = `${process.platform}-${process.arch}`;
  const machine = `${platform}, ${libc()}, Node ${process.version}`;
  if (existsSync(join(root, 'build/Release/eyrie.node')))
    return `The addon that was built here does not load (${machine}): ${reason}`;
  const folders = list(join(root, 'prebuilds')).filter((name) => name.includes('-'));
  const binaries = list(join(root, 'prebuilds', platform)).filter((name) => name.endsWith('.node'));
  if (binaries.length === 0) {
    const has = folders.length > 0 ? `it has ${folders.join(', ')}` : 'it has none';
    return `The package has no prebuilt addon for this machine (${machine}): ${has}.`;
  }
  if (/No native build was found/.test(reason))
    return `The prebuilt addons for ${platform} (${binaries.join(', ')}) do not fit this machine (${machine}).`;
  const glibc = /GLIBC_[\d.]+/.exec(reason);
  const why = glibc ? `it needs ${glibc[0].replace('_', ' ')} or newer` : reason;
  return `The prebuilt addon for ${platform} does not load on this machine (${machine}): ${why}`;
}

/** The one command that helps. */
function remedy(): string {
  const command = import.meta.url.endsWith('.ts') ? 'npm run build:native' : 'npx eyrie build';
  return `Build it from the sources in the package (needs CMake 3.25 or newer and a C++20 compiler): ${command}`;
}

function libc(): string {
  if (process.platform !== 'linux') return process.platform;
  const header = (process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined)
    ?.header;
  return header?.glibcVersionRuntime ? `glibc ${header.glibcVersionRuntime}` : 'musl';
}

function firstLine(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return message.split('\n')[0] ?? '';
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}
