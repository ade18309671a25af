import type { DType, FileFormat, QuantizedFormat } from '../tensor/dtype.ts';
import { type Tensor, Weight } from '../tensor/tensor.ts';
import { dim, handle, type Maybe, output, table } from './call.ts';

/**
 * Packs the row-major bytes of a matrix into tiles; values are kept exactly.
 * @param src u8[bytes], as the matrix lies in its file
 * @param shape [outputs N, inputs K]; K divisible by 32 for block formats
 * @param permute head size: reorders the rows of each head from interleaved to half rotary pairing; 0 keeps them
 */
export function packWeight(
  src: Tensor,
  format: FileFormat,
  shape: readonly [number, number],
  permute: number = 0,
): Weight {
  const out = new Weight(src.stream, format, shape);
  try {
    table().pack_weight(src.stream.id, src.handle, permute, out.handle);
  } catch (error) {
    out.dispose();
    throw error;
  }
  return out;
}

/**
 * Quantises a matrix of floats into packed tiles of 8 or 4 bits.
 *
 * - `i8`: d = max|w| / 127 for each output, q = rint(w / d), value d q.
 * - `f8_e4m3`: d = max|w| / 448 for each output, q the nearest number of e4m3 (Micikevicius et al. 2022), value d q.
 * - `i4_g128`, `q4_0`: for each 128 or 32 inputs of an output an f16 scale d, value d (q - 8), q in 0..15: of d = -m / s, m the value of
 *   largest magnitude and s = 7, 7.25 … 9, the one with the least squared error.
 *
 * A row or group with a value that is not finite (or, with 4 bits, beyond 458528) gets the scale NaN, so that its outputs are NaN.
 * @param src f32, f16 or bf16 [outputs N, inputs K]; may be a view of a mapped file
 * @param permute head size: reorders the rows of each head from interleaved to half rotary pairing; 0 keeps them
 */
export function quantizeWeight(src: Tensor, format: QuantizedFormat, permute: number = 0): Weight {
  const shape = [dim(src, 0, 'quantize_weight', 'src'), dim(src, 1, 'quantize_weight', 'src')] as const;
  const out = new Weight(src.stream, format, shape);
  try {
    table().quantize_weight(src.stream.id, src.handle, permute, out.handle);
  } catch (error) {
    out.dispose();
    throw error;
  }
  return out;
}

/** Converts [L] between dense float types, rounding to nearest even. */
export function cast(src: Tensor, dtype: DType, out?: Maybe<Tensor>): Tensor {
  return output(src.stream, out, [dim(src, 0, 'cast', 'src')], dtype, (o) =>
    table().cast(src.stream.id, src.handle, o.handle),
  );
}

/** out[t] = scale * table[ids[t]] (+ pos[positions[t]]): [T,D]. */
export function embed(a: {
  table: Weight;
  ids: Tensor;
  pos?: Maybe<Tensor>;
  positions?: Maybe<Tensor>;
  scale?: number;
  out?: Maybe<Tensor>;
}): Tensor {
  const s = a.ids.stream;
  return output(s, a.out, [dim(a.ids, 0, 'embed', 'ids'), a.table.shape[1]], 'f32', (out) =>
    table().embed(
      s.id,
      a.table.handle,
      a.ids.handle,
      handle(a.pos),
      handle(a.positions),
      a.scale ?? 1,
      out.handle,
    ),
  );
}

/** out[r] = x[rows[r]]: [R,D]. */
export function takeRows(a: { x: Tensor; rows: Tensor; out?: Maybe<Tensor> }): Tensor {
  return output(
    a.x.stream,
    a.out,
    [dim(a.rows, 0, 'take_rows', 'rows'), dim(a.x, 1, 'take_rows', 'x')],
    'f32',
    (out) => table().take_rows(a.x.stream.id, a.x.handle, a.rows.handle, out.handle),
  );
}
