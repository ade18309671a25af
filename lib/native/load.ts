import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import load from 'node-gyp-build';
import { EyrieError } from '../errors.ts';
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
  addon ??= find();
  return addon;
}

function find(): Addon {
  try {
    const forced = process.env.EYRIE_ADDON;
    if (forced) return createRequire(import.meta.url)(forced) as Addon;
    return load(root) as Addon;
  } catch (cause) {
    throw new EyrieError('EYRIE_NATIVE_LOAD', explain(cause), { cause });
  }
}

/** Why no binary could be loaded, and what to do. */
function explain(cause: unknown): string {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const platform = `${process.platform}-${process.arch}`;
  const prebuilds = join(root, 'prebuilds');
  const shipped = existsSync(prebuilds) ? readdirSync(prebuilds).filter((d) => d.includes('-')) : [];
  const why = shipped.includes(platform)
    ? `A prebuilt binary for ${platform} is there, but it did not load: ${reason.split('\n')[0]}`
    : `No prebuilt binary for ${platform} (Node ${process.version}) is in the package (it has: ${shipped.join(', ') || 'none'}).`;
  return `${why}\nBuild one from the sources in the package (needs CMake 3.25 and a C++20 compiler): npx eyrie build`;
}
