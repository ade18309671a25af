import { readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { EyrieError } from '../errors.ts';
import { describeContent, fileError, list, problem, withFile } from './files.ts';
import { openGguf } from './gguf-split.ts';
import { openSafetensors, openSafetensorsIndex } from './safetensors-index.ts';
import type { WeightFile } from './types.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/**
 * Reads where a model's tensors lie, without their data. `path` is a .gguf file (the first part, if it is split), a
 * .safetensors file, the .safetensors.index.json of a sharded model, or a folder with one of the latter two under the
 * name that Hugging Face gives them. Every offset and count has been checked against the files when it returns.
 */
export async function openWeights(path: string): Promise<WeightFile> {
  if (typeof path !== 'string' || path === '') {
    const got = path === '' ? 'an empty string' : String(path);
    throw new EyrieError(
      'EYRIE_INVALID_ARGUMENT',
      `path: expected the path of a model's file or folder, got ${got}. Pass a non-empty string.`,
    );
  }
  const full = resolve(path);
  let isFolder: boolean;
  try {
    isFolder = statSync(full).isDirectory();
  } catch (error) {
    throw fileError(full, error);
  }
  return isFolder ? openFolder(full) : openFile(full);
}

function openFile(path: string): WeightFile {
  if (path.endsWith('.gguf')) return openGguf(path);
  if (path.endsWith('.safetensors')) return openSafetensors(path);
  if (path.endsWith('.safetensors.index.json')) return openSafetensorsIndex(path);
  // The blobs of a hub cache are named by their hash, so another name is no reason to refuse.
  const head = withFile(path, (file) => file.head(32));
  if (head.subarray(0, 4).toString('latin1') === 'GGUF') return openGguf(path);
  if (head[8] === 0x7b) return openSafetensors(path);
  const expected = 'a .gguf or .safetensors file';
  const next = 'Give the path of a weight file, or of a folder with model.safetensors.';
  throw problem('EYRIE_FILE', path, 'not a weight file', expected, describeContent(head), next);
}

function openFolder(folder: string): WeightFile {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    throw fileError(folder, error);
  }
  // In this order when both are there, as transformers does.
  if (names.includes(SINGLE)) return openSafetensors(join(folder, SINGLE));
  if (names.includes(INDEX)) return openSafetensorsIndex(join(folder, INDEX));
  const ggufs = names.filter((name) => name.endsWith('.gguf'));
  const checkpoints = names.filter((name) => /\.(bin|pt|pth)$/.test(name));
  const [found, next] =
    ggufs.length > 0
      ? [`the GGUF files ${list(ggufs, 8)}`, 'Give the path of the one to open.']
      : checkpoints.length > 0
        ? [`the checkpoints ${list(checkpoints, 8)}`, 'Convert them to safetensors; eyrie runs no pickles.']
        : ['neither', 'Check the path, or download the model first.'];
  throw problem('EYRIE_FILE', folder, 'no weights in this folder', `${SINGLE} or ${INDEX}`, found, next);
}
