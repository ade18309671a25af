import { readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { EyrieError } from '../errors.ts';
import { DOWNLOAD_AGAIN, fileError, list, problem, quote } from './files.ts';
import { type ParsedGguf, parseGguf } from './gguf.ts';
import { sumBytes, type TensorInfo, type WeightFile } from './types.ts';

const PART_NAME = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/s;

/** Opens a GGUF file, or all parts of a split one given its first part. */
export function openGguf(path: string): WeightFile {
  const first = parseGguf(path);
  const parts = [first, ...otherPartPaths(first).map(parseGguf)];
  if (parts.length > 1) parts.forEach((part, index) => void checkPart(part, index, parts.length));
  const tensors = new Map<string, TensorInfo>();
  for (const part of parts) {
    for (const tensor of part.tensors) {
      const other = tensors.get(tensor.name);
      if (other) {
        const found = `it in ${quote(basename(other.file))} too`;
        throw bad(part.path, `duplicate tensor ${quote(tensor.name)}`, 'each tensor in one part', found);
      }
      tensors.set(tensor.name, tensor);
    }
  }
  if (parts.length > 1) checkTotal(first, tensors.size);
  return {
    format: 'gguf',
    path,
    tensors,
    totalBytes: sumBytes(tensors.values()),
    files: parts.map((part) => ({ path: part.path, bytes: part.fileBytes })),
    metadata: first.metadata,
  };
}

/** The paths of parts 2 to n, all of which exist; none for a file that is not split. */
function otherPartPaths(first: ParsedGguf): string[] {
  const { path, metadata } = first;
  const name = basename(path);
  const match = PART_NAME.exec(name);
  const count = metadata.integer('split.count', 1);
  const [prefix, number, total] = match ? [match[1]!, Number(match[2]), Number(match[3])] : [name, 1, 1];
  const rename = 'Keep the names the parts were published with, "…-00001-of-0000N.gguf".';
  if (count <= 1 && total <= 1) return [];
  if (count > 1 && !match)
    throw bad(path, 'part of a split model', 'a name with its part number', quote(name), rename);
  if (count !== total) {
    throw bad(path, 'split.count disagrees with the name', `${total} parts`, `split.count ${count}`, rename);
  }
  if (number !== 1) {
    const next = `Open ${quote(partName(prefix, 1, total))}.`;
    throw bad(path, 'not the first part of a split model', 'part 1', `part ${number} of ${total}`, next);
  }
  // One listing instead of a question per part: the number comes from outside.
  const folder = dirname(path);
  const present = new Set(listFolder(folder));
  const others = Array.from({ length: total - 1 }, (_, i) => partName(prefix, i + 2, total));
  const missing = others.filter((other) => !present.has(other));
  if (missing.length > 0) {
    const found = `${missing.length} missing: ${list(missing)}`;
    const next = 'Download the missing parts into the same folder.';
    throw problem('EYRIE_FILE', path, 'split model incomplete', `all ${total} parts`, found, next);
  }
  return others.map((other) => join(folder, other));
}

function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    throw fileError(folder, error);
  }
}

function partName(prefix: string, number: number, total: number): string {
  const pad = (n: number) => String(n).padStart(5, '0');
  return `${prefix}-${pad(number)}-of-${pad(total)}.gguf`;
}

function checkPart(part: ParsedGguf, index: number, count: number): void {
  const no = part.metadata.integer('split.no');
  const total = part.metadata.integer('split.count');
  if (no === index && total === count) return;
  const found = `split.no ${no} of split.count ${total}`;
  throw bad(part.path, 'wrong part of a split model', `split.no ${index} of split.count ${count}`, found);
}

function checkTotal(first: ParsedGguf, found: number): void {
  const expected = first.metadata.integer('split.tensors.count', found);
  if (expected === found) return;
  throw bad(first.path, 'tensors in all parts', `split.tensors.count ${expected}`, `${found}`);
}

function bad(path: string, what: string, expected: string, found: string, next = DOWNLOAD_AGAIN): EyrieError {
  return problem('EYRIE_GGUF', path, what, expected, found, next);
}
