import type { Tensor, Weight } from '../tensor/tensor.ts';
import { dim, handle, type Maybe, output, table } from './call.ts';
import { ACTIVATIONS } from './dense.ts';

/** Rotates x[T,H,D] in place by rows of table[P,R] (cos then sin). */
export function rope(a: {
  x: Tensor;
  table: Tensor;
  rows: Tensor;
  offset?: number;
  interleaved?: boolean;
}): void {
  table().rope(
    a.x.stream.id,
    a.x.handle,
    a.table.handle,
    a.rows.handle,
    a.offset ?? 0,
    a.interleaved ? 1 : 0,
  );
}

/** The pages of one layer: keys [N,J,S,D] and values [N,J,S,E], with the scales that 8-bit pages have. */
export interface Pages {
  k: Tensor;
  v: Tensor;
  /** f32[J], of f8_e4m3 pages: an element stands for its value times its head's scale */
  kScale?: Tensor;
  vScale?: Tensor;
  /** f16[N,J,S], of i8 pages: the same with a scale of each row, written beside it */
  kScales?: Tensor;
  vScales?: Tensor;
}

const planes = (p: Pages) => [handle(p.kScales), handle(p.vScales)] as const;
const scales = (p: Pages) => [handle(p.kScale), handle(p.vScale), ...planes(p)] as const;

/** Writes k[T,J,D] and v[T,J,E] to their slots (page * S + slot); negative slots are skipped. */
export function kvWrite(a: { k: Tensor; v: Tensor; slots: Tensor; pages: Pages }): void {
  table().kv_write(
    a.k.stream.id,
    a.k.handle,
    a.v.handle,
    a.slots.handle,
    a.pages.k.handle,
    a.pages.v.handle,
    ...scales(a.pages),
  );
}

export interface AttentionArgs {
  q: Tensor;
  pages: Pages;
  /** i32[B,M] */
  blockTable: Tensor;
  /** i32[B], the new tokens included */
  seqLens: Tensor;
  /** i32[B+1] */
  qStart: Tensor;
  /** i32[T,4] ancestor bits of a tree's rows */
  anc?: Maybe<Tensor>;
  sinks?: Maybe<Tensor>;
  alibi?: Maybe<Tensor>;
  qScale?: Maybe<Tensor>;
  scale: number;
  window?: number;
  chunk?: number;
  softcap?: number;
  out?: Maybe<Tensor>;
}

/** Attention of q[T,H,D] over paged keys and values: [T,H,E]. */
export function pagedAttention(a: AttentionArgs): Tensor {
  const s = a.q.stream;
  return output(
    s,
    a.out,
    [
      dim(a.q, 0, 'paged_attention', 'q'),
      dim(a.q, 1, 'paged_attention', 'q'),
      dim(a.pages.v, 3, 'paged_attention', 'v_pages'),
    ],
    'f32',
    (out) =>
      table().paged_attention(
        s.id,
        a.q.handle,
        a.pages.k.handle,
        a.pages.v.handle,
        a.blockTable.handle,
        a.seqLens.handle,
        a.qStart.handle,
        handle(a.anc),
        handle(a.sinks),
        handle(a.alibi),
        handle(a.qScale),
        a.scale,
        a.window ?? 0,
        a.chunk ?? 0,
        a.softcap ?? 0,
        ...scales(a.pages),
        out.handle,
      ),
  );
}

export interface FusedQkvArgs {
  x: Tensor;
  norm?: Maybe<Tensor>;
  eps: number;
  wq: Weight;
  wk: Weight;
  wv: Weight;
  bq?: Maybe<Tensor>;
  bk?: Maybe<Tensor>;
  bv?: Maybe<Tensor>;
  qNorm?: Maybe<Tensor>;
  kNorm?: Maybe<Tensor>;
  /** f32[P,R]; null: no rotation */
  rope?: Maybe<Tensor>;
  rows: Tensor;
  slots: Tensor;
  pages: Pages;
  activations?: number;
  out?: Maybe<Tensor>;
}

/** Norm + q, k, v projections + biases + q/k norms + rope + KV write in one launch; returns q [T,H,D]. */
export function fusedQkv(a: FusedQkvArgs): Tensor {
  const s = a.x.stream;
  const headDim = dim(a.pages.k, 3, 'fused_qkv', 'k_pages');
  return output(s, a.out, [dim(a.x, 0, 'fused_qkv', 'x'), a.wq.shape[0] / headDim, headDim], 'f32', (out) =>
    table().fused_qkv(
      s.id,
      a.x.handle,
      handle(a.norm),
      a.eps,
      a.wq.handle,
      a.wk.handle,
      a.wv.handle,
      handle(a.bq),
      handle(a.bk),
      handle(a.bv),
      handle(a.qNorm),
      handle(a.kNorm),
      handle(a.rope),
      a.rows.handle,
      a.slots.handle,
      a.pages.k.handle,
      a.pages.v.handle,
      a.activations ?? ACTIVATIONS.bf16,
      ...scales(a.pages),
      out.handle,
    ),
  );
}

/** Moves the rows of accepted tree nodes together: base[b] + d takes the row of base[b] + path[b][d]. */
export function kvCompact(a: {
  blockTable: Tensor;
  base: Tensor;
  path: Tensor;
  num: Tensor;
  pages: Pages;
}): void {
  table().kv_compact(
    a.base.stream.id,
    a.blockTable.handle,
    a.base.handle,
    a.path.handle,
    a.num.handle,
    a.pages.k.handle,
    a.pages.v.handle,
    ...planes(a.pages),
  );
}

/** Copies whole pages src[i] to dst[i]. */
export function kvCopyPages(a: { src: Tensor; dst: Tensor; pages: Pages }): void {
  table().kv_copy_pages(
    a.src.stream.id,
    a.src.handle,
    a.dst.handle,
    a.pages.k.handle,
    a.pages.v.handle,
    ...planes(a.pages),
  );
}
