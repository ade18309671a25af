import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = process.env.EYRIE_SHARED
  ? resolve(process.env.EYRIE_SHARED)
  : resolve(import.meta.dirname, '../../../shared');

/** A path in the folder of shared test material, beside the repository or at EYRIE_SHARED; null when it is absent. */
export function sharedPath(relative: string): string | null {
  const path = join(root, relative);
  return existsSync(path) ? path : null;
}
