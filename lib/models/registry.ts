import { EyrieError } from '../errors.ts';
import type { GgufDialect } from './gguf-config.ts';
import type { HfDialect } from './hf-config.ts';
import { llama, ministral, mistral, qwen2, qwen3, smollm3 } from './llama-families.ts';

/** A family: the names it goes by in files, and how its configuration is read. All run in the Llama module. */
export interface ModelFamily {
  name: string;
  /** `architectures` of config.json. */
  architectures: readonly string[];
  /** `general.architecture` of GGUF. */
  gguf: readonly string[];
  hf: HfDialect;
  ggufDialect: GgufDialect;
}

/** Every family that can be loaded: one row each. */
export const FAMILIES: readonly ModelFamily[] = [llama, mistral, ministral, qwen2, qwen3, smollm3];

function list(names: readonly string[]): string {
  return [...names].sort().join(', ');
}

export function familyOfArchitecture(where: string, architectures: readonly string[]): ModelFamily {
  const found = FAMILIES.find((f) => f.architectures.some((a) => architectures.includes(a)));
  if (found) return found;
  throw new EyrieError(
    'EYRIE_ARCHITECTURE',
    `${where}: architecture ${architectures.join(', ') || '(none named)'} is not supported; supported: ${list(FAMILIES.flatMap((f) => f.architectures))}`,
  );
}

export function familyOfGguf(where: string, architecture: string): ModelFamily {
  const found = FAMILIES.find((f) => f.gguf.includes(architecture));
  if (found) return found;
  throw new EyrieError(
    'EYRIE_ARCHITECTURE',
    `${where}: architecture "${architecture}" is not supported; supported: ${list(FAMILIES.flatMap((f) => f.gguf))}`,
  );
}
