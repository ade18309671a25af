import type { Tensor } from '../tensor/tensor.ts';
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
