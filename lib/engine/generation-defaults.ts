import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Fields } from '../models/fields.ts';
import type { ModelFiles } from '../models/index.ts';
import type { SamplingParams } from '../sampling/index.ts';
import { readJsonFile } from '../weights/index.ts';

/**
 * Sampling as the model's generation_config.json asks for it; greedy where there is none or where it says `do_sample: false`,
 * since a run that can be repeated is the better surprise.
 */
export async function readDefaults(files: ModelFiles): Promise<SamplingParams> {
  const greedy: SamplingParams = { temperature: 0 };
  if (files.weights.format === 'gguf') return greedy;
  const path = join(dirname(files.weights.path), 'generation_config.json');
  if (!existsSync(path)) return greedy;
  const f = new Fields(path, await readJsonFile(path));
  if (!f.boolean('do_sample', false)) return greedy;
  const out: SamplingParams = { temperature: f.number('temperature', 1) };
  const topP = f.number('top_p', 1);
  const topK = f.number('top_k', 0);
  if (topP < 1) out.topP = topP;
  if (topK > 0) out.topK = topK;
  return out;
}
