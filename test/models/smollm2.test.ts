import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LLM, load } from '../../lib/engine/index.ts';
import { sharedPath } from '../helpers/shared.ts';

interface Reference {
  prompt: unknown;
  promptIds: number[];
  ids: number[];
  text: string;
}

const folder = 'models/smollm2-135m-instruct';
const gguf = sharedPath(`${folder}/SmolLM2-135M-Instruct.Q4_1.gguf`);
const references = sharedPath(`${folder}/greedy-transformers-fp32.json`);
const why = gguf ? '' : ' (skipped: ../shared/models/smollm2-135m-instruct is not here)';

describe.skipIf(!gguf)(`SmolLM2-135M-Instruct, Q4_1${why}`, () => {
  const cases = references ? (JSON.parse(readFileSync(references, 'utf8')) as Reference[]) : [];
  let llm: LLM;

  beforeAll(async () => {
    llm = await load(gguf!, { activations: 'f32', contextLength: 1024, kvTokens: 2048 });
  });
  afterAll(async () => {
    await llm.dispose();
  });

  it('continues all ten stored prompts exactly as transformers does in fp32, in one batch', async () => {
    expect(cases.length).toBe(10);
    const runs = cases.map((c) =>
      llm.complete(c.promptIds, { temperature: 0, maxTokens: c.ids.length, ignoreEos: true }).result(),
    );
    const got = await Promise.all(runs);
    for (const [i, c] of cases.entries()) expect(got[i]!.ids, `prompt ${i}`).toEqual(c.ids);
  });

  it('renders and encodes the stored prompts to the stored ids', async () => {
    for (const c of cases) {
      if (typeof c.prompt === 'string') expect(await llm.tokenizer.encode(c.prompt)).toEqual(c.promptIds);
    }
  });
});

const stories = sharedPath('models/stories260k');
describe.skipIf(!stories)(
  `stories260k${stories ? '' : ' (skipped: ../shared/models/stories260k is not here)'}`,
  () => {
    it('continues "Once upon a time" as its README says', async () => {
      const llm = await load(stories!);
      const text = await llm.complete('Once upon a time', { temperature: 0, maxTokens: 40 }).text();
      expect(text).toBe(
        ', there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.',
      );
      await llm.dispose();
    });
  },
);
