import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EyrieError } from '../errors.ts';
import { pickValue } from './json-scan.ts';
import { type AddedToken, addedTokensOf, parseSection, type TokenizerSource } from './source.ts';

type Json = Record<string, unknown>;

/**
 * Reads a tokenizer from a folder in the Hugging Face layout. Only tokenizer.json is required. What other files say
 * about the same fact is taken in the order in which transformers takes it: chat_template.jinja before
 * tokenizer_config.json, generation_config.json before config.json.
 */
export async function sourceFromFolder(dir: string): Promise<TokenizerSource> {
  const [bytes, tokenizerConfig, specialMap, generation, config, jinja, templateJson] = await Promise.all([
    readBytes(dir, 'tokenizer.json'),
    readJson(dir, 'tokenizer_config.json'),
    readJson(dir, 'special_tokens_map.json'),
    readJson(dir, 'generation_config.json'),
    readJson(dir, 'config.json'),
    readText(dir, 'chat_template.jinja'),
    readJson(dir, 'chat_template.json'),
  ]);
  if (bytes === null) {
    throw new EyrieError(
      'EYRIE_TOKENIZER',
      `tokenizer: expected a file tokenizer.json in ${dir}, found none. Save the tokenizer with ` +
        'save_pretrained() of transformers 4.x or later, or use a GGUF file, which carries its tokenizer.',
    );
  }

  const json = bytes.toString('utf8');
  const added = addedTokensOf(json);
  const names: Json = { ...specialMap, ...tokenizerConfig };
  const textConfig = config?.text_config as Json | undefined;
  const bosText = tokenText(names.bos_token);
  const eosText = tokenText(names.eos_token);
  const bosId =
    idOf(json, added, bosText) ??
    firstId(generation?.bos_token_id, config?.bos_token_id, textConfig?.bos_token_id) ??
    null;
  const eosFiles = [generation?.eos_token_id, config?.eos_token_id, textConfig?.eos_token_id];
  const eosIds = new Set(eosFiles.map(ids).find((list) => list.length > 0) ?? []);
  const eosOfTokenizer = idOf(json, added, eosText);
  if (eosOfTokenizer !== undefined) eosIds.add(eosOfTokenizer);

  const templateVars = specialTexts(names);
  const contentOf = (id: number | undefined | null) => added.find((token) => token.id === id)?.content;
  templateVars.bos_token ??= contentOf(bosId) ?? '';
  templateVars.eos_token ??= contentOf([...eosIds][0]) ?? '';

  return {
    get json() {
      return bytes.toString('utf8');
    },
    eosIds: [...eosIds],
    bosId,
    addBos: bosId !== null && addsBos(json, names.add_bos_token, bosId),
    chatTemplate:
      jinja ?? pickTemplate(templateJson?.chat_template) ?? pickTemplate(names.chat_template) ?? null,
    templateVars,
  };
}

async function readText(dir: string, name: string): Promise<string | null> {
  return (await readBytes(dir, name))?.toString('utf8') ?? null;
}

async function readBytes(dir: string, name: string): Promise<Buffer | null> {
  try {
    return await readFile(join(dir, name));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    const why = (cause as Error).message;
    throw new EyrieError('EYRIE_FILE', `tokenizer: ${join(dir, name)} cannot be read: ${why}`, { cause });
  }
}

async function readJson(dir: string, name: string): Promise<Json | null> {
  const text = await readText(dir, name);
  if (text === null) return null;
  try {
    return JSON.parse(text) as Json;
  } catch (cause) {
    throw new EyrieError('EYRIE_TOKENIZER', `tokenizer: ${join(dir, name)} is no valid JSON`, { cause });
  }
}

/** A special token stands in these files as a string or as `{content}`. */
function tokenText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  const content = (value as { content?: unknown } | null | undefined)?.content;
  return typeof content === 'string' ? content : undefined;
}

function specialTexts(names: Json): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [key, value] of Object.entries(names)) {
    const text = key.endsWith('_token') ? tokenText(value) : undefined;
    if (text !== undefined) texts[key] = text;
  }
  return texts;
}

function ids(value: unknown): number[] {
  const list = Array.isArray(value) ? value : [value];
  return list.filter((id): id is number => Number.isInteger(id) && id >= 0);
}

function firstId(...values: unknown[]): number | undefined {
  return values.flatMap(ids)[0];
}

function idOf(json: string, added: AddedToken[], text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const row = added.find((token) => token.content === text);
  if (row) return row.id;
  // A special token that is an ordinary word of the vocabulary: rare enough to pay for parsing it.
  const vocab = pickValue(pickValue(json, 'model') ?? '{}', 'vocab');
  if (!vocab?.startsWith('{')) return undefined;
  const entries = new Map(Object.entries(JSON.parse(vocab) as Record<string, number>));
  return entries.get(text);
}

/** `add_bos_token` decides when it is there; else a post-processor that begins with the token. */
function addsBos(json: string, flag: unknown, bosId: number): boolean {
  if (typeof flag === 'boolean') return flag;
  const root = parseSection(json, 'post_processor') as Json | null | undefined;
  const steps = root?.type === 'Sequence' ? (root.processors as Json[]) : root ? [root] : [];
  const template = steps.find((step) => step.type === 'TemplateProcessing');
  const first = (template?.single as Json[] | undefined)?.[0]?.SpecialToken as { id: string } | undefined;
  if (!first) return false;
  const tokens = template?.special_tokens as Record<string, { ids: number[] }> | undefined;
  return tokens?.[first.id]?.ids[0] === bosId;
}

/** `chat_template` is one template, or a list of named ones of which `default` is meant for plain chat. */
function pickTemplate(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return undefined;
  const rows = value as { name?: string; template?: string }[];
  return (rows.find((row) => row.name === 'default') ?? rows[0])?.template;
}
