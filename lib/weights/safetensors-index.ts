import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { EyrieError } from '../errors.ts';
import { CONVERT_AGAIN, DOWNLOAD_AGAIN, list, problem, quote } from './files.ts';
import { isObject, jsonType, readJsonObject } from './hf-config.ts';
import { parseSafetensors } from './safetensors.ts';
import { type ParsedFile, sumBytes, type TensorInfo, type WeightFile } from './types.ts';

/** A plain file name: no folder, no drive, no stream of a drive. Anything else could lead out of the model's folder. */
const SHARD_NAME = /^[^/\\:\0]+\.safetensors$/;

/** Opens a single safetensors file. */
export function openSafetensors(path: string): WeightFile {
  const parsed = parseSafetensors(path);
  return weightFile(path, [parsed], new Map(parsed.tensors.map((tensor) => [tensor.name, tensor])));
}

/** Opens a sharded model given its `*.safetensors.index.json`. The index decides which tensor comes from where. */
export function openSafetensorsIndex(path: string): WeightFile {
  const weightMap = readWeightMap(path);
  const folder = dirname(path);
  const names = [...new Set(weightMap.values())];
  const missing = names.filter((name) => !existsSync(join(folder, name)));
  if (missing.length > 0) {
    const found = `${missing.length} missing: ${list(missing)}`;
    const next = 'Download the missing shards into the same folder.';
    throw problem('EYRIE_FILE', path, 'sharded model incomplete', `all ${names.length} shards`, found, next);
  }
  const shards = new Map<string, ParsedFile>();
  const contents = new Map<string, Map<string, TensorInfo>>();
  for (const name of names) {
    const shard = parseSafetensors(join(folder, name));
    shards.set(name, shard);
    contents.set(name, new Map(shard.tensors.map((tensor) => [tensor.name, tensor])));
  }
  const tensors = new Map<string, TensorInfo>();
  const lost: string[] = [];
  for (const [tensorName, shardName] of weightMap) {
    const tensor = contents.get(shardName)!.get(tensorName);
    if (tensor) tensors.set(tensorName, tensor);
    else lost.push(tensorName);
  }
  if (lost.length > 0) {
    const first = basename(weightMap.get(lost[0]!)!);
    const found = `${lost.length} missing, the first from ${quote(first)}: ${list(lost, 10)}`;
    throw bad(path, 'tensors of the index', 'each in the shard the index names', found, DOWNLOAD_AGAIN);
  }
  return weightFile(path, [...shards.values()], tensors);
}

function readWeightMap(path: string): Map<string, string> {
  const index = readJsonObject(path, 'EYRIE_SAFETENSORS', { duplicateKeys: 'refuse' });
  const weightMap = index.weight_map;
  if (!isObject(weightMap)) throw bad(path, '"weight_map"', 'an object', jsonType(weightMap), DOWNLOAD_AGAIN);
  const entries = Object.entries(weightMap);
  if (entries.length === 0) throw bad(path, '"weight_map"', 'at least one tensor', 'none', DOWNLOAD_AGAIN);
  for (const [tensor, shard] of entries) {
    if (typeof shard === 'string' && SHARD_NAME.test(shard)) continue;
    const found = typeof shard === 'string' ? quote(shard) : jsonType(shard);
    const expected = 'the plain name of a .safetensors file in the same folder';
    throw bad(path, `shard of tensor ${quote(tensor)}`, expected, found, CONVERT_AGAIN);
  }
  return new Map(entries as [string, string][]);
}

function weightFile(path: string, parsed: ParsedFile[], tensors: Map<string, TensorInfo>): WeightFile {
  return {
    format: 'safetensors',
    path,
    tensors,
    totalBytes: sumBytes(tensors.values()),
    files: parsed.map((file) => ({ path: file.path, bytes: file.fileBytes })),
    metadata: null,
  };
}

function bad(path: string, what: string, expected: string, found: string, next: string): EyrieError {
  return problem('EYRIE_SAFETENSORS', path, what, expected, found, next);
}
