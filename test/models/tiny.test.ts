import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LLM, load } from '../../lib/engine/index.ts';
import { heldOutPuzzles } from '../helpers/puzzles.ts';

describe('the model that ships', () => {
  let llm: LLM;
  beforeAll(async () => {
    llm = await load(fileURLToPath(new URL('../../models/tiny', import.meta.url)), { kvTokens: 352 * 16 });
  });
  afterAll(() => llm.dispose());

  it('solves as many of 500 unseen puzzles as its README says, within two points', async () => {
    const all = heldOutPuzzles();
    expect(all.length).toBe(1067);
    const puzzles = Array.from({ length: 500 }, (_, i) => all[Math.floor((i * all.length) / 500)]!);
    const right = await Promise.all(
      puzzles.map(async ({ question, answer }) => {
        const text = await llm
          .chat([{ role: 'user', content: question }], { temperature: 0, maxTokens: 220 })
          .text();
        return text.replace(/\s+/g, ' ').split('<answer>')[1]?.trim() === answer;
      }),
    );
    const accuracy = right.filter(Boolean).length / puzzles.length;
    console.log(`tiny: ${(100 * accuracy).toFixed(1)} % of 500 unseen puzzles (README: 34.6 % of all 1067)`);
    expect(Math.abs(accuracy - 0.346)).toBeLessThan(0.02);
  });
});
