import { expect, it } from 'vitest';
import { kvWrite, pagedAttention, Tensor, treeAccept, treePrepare } from '../../lib/ops/index.ts';
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

/** What a node sees and where it stands, by climbing to the root. */
function placed(t: Trees, b: number, Q: number, i: number): { seen: number[]; depth: number } {
  const seen: number[] = [];
  for (let at = i; ; ) {
    seen.unshift(at);
    if (at === 0) return { seen, depth: seen.length - 1 };
    at = at < t.nodes[b]! ? t.parents[b * Q + at]! : 0;
  }
}

describeLevels('tree_prepare', (stream) => {
  for (const [B, Q, pageSize] of [
    [1, 1, 16],
    [4, 9, 16],
    [17, 33, 32],
    [3, 64, 64],
    [2, 128, 16],
    [0, 8, 16],
  ] as const) {
    it(`${B} trees of up to ${Q} nodes, pages of ${pageSize}`, async () => {
      const s = stream();
      const random = new Random(7 * Q + B);
      const t = randomTrees(random, B, Q, 2);
      const M = 12;
      const bases = random.integers(B, 0, M * pageSize - Q + 1);
      if (B) bases[0] = M * pageSize - Q; // the last node takes the last slot of the last page
      const pages = random.permutation(B * M);
      using parents = Tensor.from(s, 'i32', [B, Q], t.parents);
      using numNodes = Tensor.from(s, 'i32', [B], t.nodes);
      using base = Tensor.from(s, 'i32', [B], bases);
      using blockTable = Tensor.from(s, 'i32', [B, M], Int32Array.from(pages));
      const anc = guarded(s, 'i32', [B, Q, 4]);
      const [rows, slots] = [guarded(s, 'i32', [B, Q]), guarded(s, 'i32', [B, Q])];
      const seqLens = guarded(s, 'i32', [B]);
      const into = { anc: anc.tensor, rows: rows.tensor, slots: slots.tensor, seqLens: seqLens.tensor };
      treePrepare({ parents, numNodes, base, blockTable, pageSize, ...into });
      const [a, r, w, n] = [await anc.read(), await rows.read(), await slots.read(), await seqLens.read()];
      for (let b = 0; b < B; b++) {
        expect(n[b]).toBe(bases[b]! + Q);
        for (let i = 0; i < Q; i++) {
          const { seen, depth } = placed(t, b, Q, i);
          const bits = Array.from({ length: Q }, (_, j) => j).filter(
            (j) => (a[4 * (b * Q + i) + (j >> 5)]! >>> (j & 31)) & 1,
          );
          expect(bits).toEqual(seen);
          expect(r[b * Q + i]).toBe(bases[b]! + depth);
          const index = bases[b]! + i;
          const page = pages[b * M + Math.floor(index / pageSize)]!;
          expect(w[b * Q + i]).toBe(page * pageSize + (index % pageSize));
        }
      }
      for (const out of [anc, rows, slots, seqLens]) out.dispose();
    });
  }

  it('prepares a chain so that attention gives what it gives for plain text', async () => {
    const s = stream();
    const random = new Random(3);
    const [B, Q, H, D, S] = [2, 5, 2, 32, 16];
    const bases = Int32Array.of(20, 7);
    const pages = { k: Tensor.empty(s, 'f16', [6, H, S, D]), v: Tensor.empty(s, 'f16', [6, H, S, D]) };
    const ints = (shape: number[], x: ArrayLike<number>) => Tensor.from(s, 'i32', shape, Int32Array.from(x));
    const blockTable = ints([B, 3], [4, 0, 2, 1, 3, 5]);
    const parents = ints(
      [B, Q],
      Array.from({ length: B * Q }, (_, i) => (i % Q) - 1),
    );
    const tree = treePrepare({
      parents,
      numNodes: ints([B], [Q, Q]),
      base: ints([B], bases),
      blockTable,
      pageSize: S,
    });
    const rows = (n: number) => Tensor.from(s, 'f32', [n, H, D], random.normal(n * H * D));
    // The texts before the trees, then the nodes.
    for (const [b, n] of bases.entries()) {
      const at = (i: number) => [4, 0, 2, 1, 3, 5][b * 3 + Math.floor(i / S)]! * S + (i % S);
      kvWrite({
        k: rows(n),
        v: rows(n),
        slots: ints(
          [n],
          Array.from({ length: n }, (_, i) => at(i)),
        ),
        pages,
      });
    }
    kvWrite({ k: rows(B * Q), v: rows(B * Q), slots: tree.slots.view([B * Q]), pages });
    const call = {
      q: rows(B * Q),
      pages,
      blockTable,
      seqLens: tree.seqLens,
      qStart: ints([B + 1], [0, Q, 2 * Q]),
      scale: 0.2,
    };
    const [plain, masked] = [
      await pagedAttention(call).read(),
      await pagedAttention({ ...call, anc: tree.anc.view([B * Q, 4]) }).read(),
    ];
    expect(masked).toEqual(plain);
  });

  it('refuses nodes without a page and parents that come later', async () => {
    const s = stream();
    const call = (parents: number[], base: number, table: number[]) => {
      const ints = (shape: number[], x: number[]) => Tensor.from(s, 'i32', shape, Int32Array.from(x));
      const a = { parents: ints([1, 3], parents), numNodes: ints([1], [3]), base: ints([1], [base]) };
      return treePrepare({ ...a, blockTable: ints([1, 2], table), pageSize: 4 }).rows.read();
    };
    await expect(call([-1, 0, 1], 6, [0, 1])).rejects.toThrow(
      'tree_prepare: base[0] is 6, expected a length whose nodes have pages, in [0, 6)',
    );
    await expect(call([-1, 0, 2], 1, [0, 1])).rejects.toThrow(
      'tree_prepare: parents[0,2] is 2, expected a node before it, in [0, 2)',
    );
    await expect(call([-1, 0, 1], 3, [0, -1])).rejects.toThrow('tree_prepare: block_table[0,1] is -1');
    const wide = Tensor.empty(s, 'i32', [1, 129]);
    const one = Tensor.from(s, 'i32', [1], Int32Array.of(1));
    const blockTable = Tensor.from(s, 'i32', [1, 40], new Int32Array(40));
    const { anc } = treePrepare({ parents: wide, numNodes: one, base: one, blockTable, pageSize: 4 });
    await expect(anc.read()).rejects.toThrow('tree_prepare: parents has Q=129, expected at most 128 nodes');
  });
});
