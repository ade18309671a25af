import { type ErrorCode, EyrieError } from '../errors.ts';
import { DOWNLOAD_AGAIN, problem, withFile } from './files.ts';
import { type JsonObject, type JsonOptions, JsonProblem, parseJson } from './json.ts';
import { decodeText } from './text.ts';

const REPAIR = 'Correct it there if it was edited by hand; otherwise download it again.';

/** Tokenizers of large vocabularies reach 40 MB. */
const MAX_JSON_BYTES = 256 * 2 ** 20;

/**
 * Reads a JSON file whose top level is an object, as config.json and its siblings are. Every error is `EYRIE_CONFIG`
 * with the path; a malformed file's error has line and column. Objects have no prototype.
 */
export async function readJsonFile(path: string): Promise<JsonObject> {
  try {
    return readJsonObject(path, 'EYRIE_CONFIG', { duplicateKeys: 'last' });
  } catch (error) {
    // To a caller that needs this file, its absence is a problem of the configuration.
    if (error instanceof EyrieError && error.code === 'EYRIE_FILE') {
      throw new EyrieError('EYRIE_CONFIG', error.message, { cause: error });
    }
    throw error;
  }
}

export function readJsonObject(path: string, code: ErrorCode, options: JsonOptions): JsonObject {
  const bytes = withFile(path, (file) => {
    if (file.size > MAX_JSON_BYTES) {
      const next = 'This is not the file that belongs here; download the model again.';
      throw problem(code, path, 'too large', `at most ${MAX_JSON_BYTES} bytes of JSON`, `${file.size}`, next);
    }
    return file.head(file.size);
  });
  return parseJsonObject(path, bytes, code, options);
}

/** Parses bytes that must be a JSON object in UTF-8; `part` names them when they are not the whole file. */
export function parseJsonObject(
  path: string,
  bytes: Buffer,
  code: ErrorCode,
  options: JsonOptions,
  part = 'the file',
): JsonObject {
  const text = decodeText(bytes);
  if (text === null) throw problem(code, path, part, 'JSON in UTF-8', 'other bytes', DOWNLOAD_AGAIN);
  let value: unknown;
  try {
    value = parseJson(text, options);
  } catch (error) {
    if (!(error instanceof JsonProblem)) throw error;
    throw problem(code, path, `${part}, ${error.where}`, 'valid JSON', error.message, REPAIR);
  }
  if (isObject(value)) return value;
  throw problem(code, path, part, 'a JSON object', jsonType(value), DOWNLOAD_AGAIN);
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The kind of a JSON value, for messages. */
export function jsonType(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  return Array.isArray(value) ? 'an array' : isObject(value) ? 'an object' : `a ${typeof value}`;
}
