import type { Tensor } from '../tensor/tensor.ts';
import { dim, type Maybe, outputs, table } from './call.ts';

export interface TreePrepareArgs {
  /** i32[B,Q]: node of the parent; -1 for node 0, the root. Parents come before children; Q is at most 128. */
  parents: Tensor;
  /** i32[B]: nodes that are real, from 1 to Q; the others are children of the root that nobody else sees */
  numNodes: Tensor;
  /** i32[B]: tokens of the request in the cache, before the tree */
  base: Tensor;
  /** i32[B,M]: pages of the request; they cover base + Q tokens */
  blockTable: Tensor;
  /** Tokens of a page. */
  pageSize: number;
  anc?: Maybe<Tensor>;
  rows?: Maybe<Tensor>;
  slots?: Maybe<Tensor>;
  seqLens?: Maybe<Tensor>;
}

/**
 * What verifying trees needs, made on the device: `anc` i32[B,Q,4] for {@link pagedAttention} (view it as [B*Q,4]), `rows` i32[B,Q], the
 * positions for rope, `slots` i32[B,Q] for {@link kvWrite}, `seqLens` i32[B].
 */
export function treePrepare(a: TreePrepareArgs): Record<'anc' | 'rows' | 'slots' | 'seqLens', Tensor> {
  const s = a.parents.stream;
  const [b, q] = [dim(a.parents, 0, 'tree_prepare', 'parents'), dim(a.parents, 1, 'tree_prepare', 'parents')];
  const shapes = { anc: [b, q, 4], rows: [b, q], slots: [b, q], seqLens: [b] };
  const { anc, rows, slots, seqLens } = a;
  return outputs(s, 'i32', { anc, rows, slots, seqLens }, shapes, (o) =>
    table().tree_prepare(
      s.id,
      a.parents.handle,
      a.numNodes.handle,
      a.base.handle,
      a.blockTable.handle,
      a.pageSize,
      o.anc.handle,
      o.rows.handle,
      o.slots.handle,
      o.seqLens.handle,
    ),
  );
}

export interface TreeAcceptArgs {
  /** i32[B,Q] */
  draft: Tensor;
  parents: Tensor;
  /** i32[B] */
  numNodes: Tensor;
  sampled: Tensor;
  path?: Maybe<Tensor>;
  numAccepted?: Maybe<Tensor>;
  bonus?: Maybe<Tensor>;
}

/** Walks each tree along the tokens that were sampled. */
export function treeAccept(a: TreeAcceptArgs): { path: Tensor; numAccepted: Tensor; bonus: Tensor } {
  const s = a.draft.stream;
  const b = [dim(a.draft, 0, 'tree_accept', 'draft')];
  const shapes = { path: a.draft.shape, numAccepted: b, bonus: b };
  const { path, numAccepted, bonus } = a;
  return outputs(s, 'i32', { path, numAccepted, bonus }, shapes, (o) =>
    table().tree_accept(
      s.id,
      a.draft.handle,
      a.parents.handle,
      a.numNodes.handle,
      a.sampled.handle,
      o.path.handle,
      o.numAccepted.handle,
      o.bonus.handle,
    ),
  );
}
