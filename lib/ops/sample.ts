import { Tensor } from '../tensor/tensor.ts';
import { dim, handle, type Maybe, output, table } from './call.ts';

export interface SampleArgs {
  /** f32[R,V] */
  logits: Tensor;
  /** f32[R,C], the columns of SAMPLING_COLUMNS */
  columns: Tensor;
  /** i32[R,4]: seed low, seed high, position, 0 */
  keys: Tensor;
  /** u16[U,V]: low 15 bits count the output, the top bit says "in the prompt" */
  counts?: Maybe<Tensor>;
  /** i32[R], -1: no penalties */
  countsRow?: Maybe<Tensor>;
  biasStart?: Maybe<Tensor>;
  biasIds?: Maybe<Tensor>;
  biasValues?: Maybe<Tensor>;
  /** i32[R,ceil(V/32)]: a set bit allows the token */
  mask?: Maybe<Tensor>;
  ids?: Maybe<Tensor>;
  logprobs?: Maybe<Tensor>;
  topIds?: Maybe<Tensor>;
  topLogprobs?: Maybe<Tensor>;
}

/** Draws one token per row: i32[R]. */
export function sample(a: SampleArgs): Tensor {
  const s = a.logits.stream;
  return output(s, a.ids, [dim(a.logits, 0, 'sample', 'logits')], 'i32', (ids) =>
    table().sample(
      s.id,
      a.logits.handle,
      a.columns.handle,
      a.keys.handle,
      handle(a.counts),
      handle(a.countsRow),
      handle(a.biasStart),
      handle(a.biasIds),
      handle(a.biasValues),
      handle(a.mask),
      ids.handle,
      handle(a.logprobs),
      handle(a.topIds),
      handle(a.topLogprobs),
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
  const made: Tensor[] = [];
  const make = (out: Maybe<Tensor>, shape: readonly number[]): Tensor => {
    if (out) return out;
    const t = Tensor.empty(s, 'i32', shape);
    made.push(t);
    return t;
  };
  const path = make(a.path, a.draft.shape);
  const numAccepted = make(a.numAccepted, b);
  const bonus = make(a.bonus, b);
  try {
    table().tree_accept(
      s.id,
      a.draft.handle,
      a.parents.handle,
      a.numNodes.handle,
      a.sampled.handle,
      path.handle,
      numAccepted.handle,
      bonus.handle,
    );
  } catch (error) {
    for (const t of made) t.dispose();
    throw error;
  }
  return { path, numAccepted, bonus };
}
