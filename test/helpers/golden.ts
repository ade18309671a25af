import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Outputs of transformers for a tiny checkpoint; see test/golden/README.md. */
export interface Golden {
  vocabSize: number;
  logitStd: number;
  minMargin: number;
  prompts: { promptIds: number[]; logits: { position: number; values: number[] }[]; greedyIds: number[] }[];
  texts?: { text: string; ids: number[] }[];
}

const root: string = fileURLToPath(new URL('../golden/', import.meta.url));

/** Every golden: its name, the model's path and the outputs. */
export function goldens(): { name: string; path: string; golden: Golden }[] {
  const read = (p: string) => JSON.parse(readFileSync(p, 'utf8')) as Golden;
  const models = readdirSync(`${root}models`).map((name) => ({
    name,
    path: `${root}models/${name}`,
    golden: read(`${root}models/${name}/golden.json`),
  }));
  const gguf = readdirSync(`${root}gguf`)
    .filter((f) => f.endsWith('.gguf'))
    .map((f) => ({
      name: `gguf ${f.slice(0, -5)}`,
      path: `${root}gguf/${f}`,
      golden: read(`${root}gguf/${f.slice(0, -5)}.golden.json`),
    }));
  return [...models, ...gguf];
}
