import { expect, it } from 'vitest';
import { Tensor, treeAccept } from '../../lib/ops/index.ts';
import { describeLevels, guarded } from '../helpers/describe-op.ts';
import { Random } from '../helpers/random.ts';

interface Trees {
  draft: Int32Array;
  parents: Int32Array;
  nodes: Int32Array;
  sampled: Int32Array;
}

/** Random trees of up to Q nodes over `tokens` token ids: few ids make long matches. */
function randomTrees(random: Random, B: number, Q: number, tokens: number): Trees {
  const parents = new Int32Array(B * Q).fill(-9);
  const nodes = random.integers(B, 1, Q + 1);
  for (let b = 0; b < B; b++) {
    for (let i = 0; i < nodes[b]!; i++)
      parents[b * Q + i] = i === 0 ? -1 : random.integer(Math.max(0, i - 3), i);
  }
  return {
    draft: random.integers(B * Q, 0, tokens),
    parents,
    nodes,
    sampled: random.integers(B * Q, 0, tokens),
  };
}

/** The walk as the op table words it. */
function reference(t: Trees, b: number, Q: number): { path: number[]; bonus: number } {
  const path = [0];
  for (;;) {
    const at = path.at(-1)!;
    const want = t.sampled[b * Q + at]!;
    let child = -1;
    for (let c = 1; c < t.nodes[b]! && child < 0; c++) {
      if (t.parents[b * Q + c] === at && t.draft[b * Q + c] === want) child = c;
    }
    if (child < 0) return { path, bonus: want };
    path.push(child);
  }
}

describeLevels('tree_accept', (stream) => {
  for (const [B, Q, tokens] of [
    [1, 1, 5],
    [3, 8, 2],
    [17, 64, 3],
    [5, 12, 1],
    [9, 30, 50],
  ] as const) {
    it(`${B} trees of up to ${Q} nodes, ${tokens} tokens`, async () => {
      const s = stream();
      const t = randomTrees(new Random(Q), B, Q, tokens);
      using draft = Tensor.from(s, 'i32', [B, Q], t.draft);
      using parents = Tensor.from(s, 'i32', [B, Q], t.parents);
      using numNodes = Tensor.from(s, 'i32', [B], t.nodes);
      using sampled = Tensor.from(s, 'i32', [B, Q], t.sampled);
      const path = guarded(s, 'i32', [B, Q]);
      const numAccepted = guarded(s, 'i32', [B]);
      const bonus = guarded(s, 'i32', [B]);
      treeAccept({
        draft,
        parents,
        numNodes,
        sampled,
        path: path.tensor,
        numAccepted: numAccepted.tensor,
        bonus: bonus.tensor,
      });
      const [p, n, last] = [await path.read(), await numAccepted.read(), await bonus.read()];
      for (let b = 0; b < B; b++) {
        const want = reference(t, b, Q);
        expect(n[b]).toBe(want.path.length);
        expect(last[b]).toBe(want.bonus);
        const padded = [...want.path, ...new Array<number>(Q - want.path.length).fill(-1)];
        expect(Array.from(p.slice(b * Q, (b + 1) * Q))).toEqual(padded);
      }
      for (const out of [path, numAccepted, bonus]) out.dispose();
    });
  }

  it('refuses a parent that comes after its child', async () => {
    const s = stream();
    using draft = Tensor.from(s, 'i32', [1, 3], Int32Array.of(1, 2, 3));
    using parents = Tensor.from(s, 'i32', [1, 3], Int32Array.of(-1, 2, 0));
    using numNodes = Tensor.from(s, 'i32', [1], Int32Array.of(3));
    const { bonus } = treeAccept({ draft, parents, numNodes, sampled: draft });
    await expect(bonus.read()).rejects.toThrow(
      'tree_accept: parents[0,1] is 2, expected a node before it, in [0, 1)',
    );
  });
});
