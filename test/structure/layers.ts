import { readdirSync, readFileSync } from 'node:fs';
import { join, posix, relative } from 'node:path';

/** A source file: its path from the repository's root, and its text. */
export interface Source {
  path: string;
  text: string;
}

const root = join(import.meta.dirname, '../..');

/** All files below `folder` whose name matches. */
export function sources(folder: string, name: RegExp): Source[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && name.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ path: relative(root, path), text: readFileSync(path, 'utf8') }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/**
 * The rooms of lib/ and the rooms directly below each; whatever those may import, the room may import too. This is the picture
 * in ARCHITECTURE.md: change it with the arrows.
 */
export const LIB: Record<string, readonly string[]> = {
  native: [],
  tensor: ['native'],
  ops: ['tensor'],
  weights: ['tensor'],
  tokenizer: [],
  nn: ['ops', 'weights'],
  kv: ['ops'],
  sampling: ['ops'],
  models: ['nn', 'kv'],
  engine: ['models', 'sampling', 'tokenizer'],
  speculative: ['engine'],
  structured: ['engine'],
  reasoning: ['engine'],
  training: ['models', 'engine'],
  hub: [],
  server: ['speculative', 'structured', 'reasoning'],
  integrations: ['server'],
  cli: ['server', 'training', 'hub', 'integrations'],
};

/** Files of lib/ itself. errors.ts is below everything; index.ts, and internals.ts for the benchmarks, compose everything but the command line. */
const LIB_FILES: Record<string, readonly string[]> = {
  'errors.ts': [],
  'index.ts': Object.keys(LIB).filter((room) => room !== 'cli'),
  'internals.ts': Object.keys(LIB).filter((room) => room !== 'cli'),
};

/** The rooms of csrc/, and single headers: cuda/backend.h is the CUDA backend without CUDA's headers, emulation.h takes their place. */
const CSRC: Record<string, readonly string[]> = {
  core: [],
  'cpu/simd': ['core'],
  cpu: ['core', 'cpu/simd'],
  'cpu/host': ['core'],
  cuda: ['core', 'emulation/emulation.h'],
  emulation: ['core', 'cuda/backend.h', 'cuda/faults.h', 'cuda/kernels.h'],
  napi: ['core', 'cpu/host', 'cuda/backend.h'],
  tools: ['core', 'cuda'],
};

/** Every import that points upwards (or at a room that is not in the picture), as a sentence. */
export function upwardImports(files: readonly Source[]): string[] {
  const found: string[] = [];
  for (const { path, text } of files) {
    const allowed = below(path);
    if (!allowed) {
      found.push(`${path}: lies in no room of the picture`);
      continue;
    }
    for (const target of importsOf(path, text)) {
      const room = roomOf(target);
      if (target === 'lib/errors.ts' || (room !== null && (room === roomOf(path) || allowed.has(room))))
        continue;
      if (target === 'lib/index.ts' && (roomOf(path) === 'cli' || roomOf(path) === 'integrations')) continue;
      found.push(`${path} imports ${target}`);
    }
  }
  return found;
}

/** Every #include of csrc/ that points upwards or sees headers it must not see, as a sentence. */
export function upwardIncludes(files: readonly Source[]): string[] {
  const found: string[] = [];
  for (const { path, text } of files) {
    const room = csrcRoom(path.replace(/^csrc\//, ''));
    for (const [, kind, target] of text.matchAll(/^\s*#\s*include\s*([<"])([^>"]+)[>"]/gm)) {
      const include = target!;
      if (/^(node_)?(js_native_)?(node_api|napi)(_types)?(-inl)?\.h$|^v8\.h$|^uv\.h$/.test(include)) {
        if (room !== 'napi') found.push(`${path} includes ${include}: only csrc/napi sees JavaScript`);
      } else if (
        /^(cuda|cublas|nv|cooperative_groups|mma|cute|cutlass)\w*(\.h|\/)/.test(include) &&
        kind === '<'
      ) {
        if (room !== 'cuda') found.push(`${path} includes ${include}: only csrc/cuda sees CUDA`);
      } else if (kind === '"' && include.includes('/')) {
        const other = csrcRoom(include);
        const allowed = room === null ? [] : CSRC[room]!;
        if (room !== other && !allowed.includes(other ?? '') && !allowed.includes(include))
          found.push(`${path} includes ${include}`);
      }
    }
  }
  return found;
}

function below(path: string): Set<string> | null {
  const room = roomOf(path);
  const direct = room === null ? LIB_FILES[path.replace(/^lib\//, '')] : LIB[room];
  if (!direct) return null;
  const all = new Set<string>();
  const visit = (name: string): void => {
    if (all.has(name)) return;
    all.add(name);
    for (const next of LIB[name] ?? []) visit(next);
  };
  direct.forEach(visit);
  return all;
}

/** Paths of the files of lib/ that a file imports, types included. */
function importsOf(path: string, text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  const specifiers = [
    ...code.matchAll(/\b(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/g),
    ...code.matchAll(/\bimport\s*\(\s*['"]([^'"]+)['"]/g),
    ...code.matchAll(/\bimport\s+['"]([^'"]+)['"]/g),
    ...code.matchAll(/new URL\(\s*['"](\.[^'"]+\.[tj]s)['"]/g),
  ].map((m) => m[1]!);
  return specifiers.filter((s) => s.startsWith('.')).map((s) => posix.join(posix.dirname(path), s));
}

function roomOf(path: string): string | null {
  return /^lib\/([^/]+)\//.exec(path)?.[1] ?? null;
}

function csrcRoom(path: string): string | null {
  if (path.startsWith('cpu/host/')) return 'cpu/host';
  if (path.startsWith('cpu/simd/')) return 'cpu/simd';
  const room = path.split('/')[0]!;
  return path.includes('/') && room in CSRC ? room : null;
}
