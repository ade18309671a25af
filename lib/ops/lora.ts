import type { Tensor } from '../tensor/tensor.ts';
import { dim, type Maybe, output, table } from './call.ts';

/**
 * First half of a low-rank update (LoRA, Hu et al. 2021): a[adapter[t]] · x[t] for each row, f32[T,R]; zeros where adapter[t] is -1.
 * x [T,K]; a [S,R,K], the adapters (lora_A of checkpoints) in slots, f32, f16 or bf16, smaller ranks padded with zeros.
 */
export function loraShrink(args: { x: Tensor; a: Tensor; adapter: Tensor; v?: Maybe<Tensor> }): Tensor {
  const { x, a, adapter, v } = args;
  const shape = [dim(x, 0, 'lora_shrink', 'x'), dim(a, 1, 'lora_shrink', 'a')];
  return output(x.stream, v, shape, 'f32', (out) =>
    table().lora_shrink(x.stream.id, x.handle, a.handle, adapter.handle, out.handle),
  );
}

/**
 * Second half: out[t] += scale[s] * (v[t] · b[s]) in place, s = adapter[t]; rows with -1 keep their bits. v f32[T,R]; b [S,R,N], the
 * transpose of lora_B of checkpoints, f32, f16 or bf16; scale f32[S] (alpha / rank); out [T,N], rows may be strided.
 */
export function loraExpand(args: {
  v: Tensor;
  b: Tensor;
  scale: Tensor;
  adapter: Tensor;
  out: Tensor;
}): void {
  const { v, b, scale, adapter, out } = args;
  table().lora_expand(v.stream.id, v.handle, b.handle, scale.handle, adapter.handle, out.handle);
}
