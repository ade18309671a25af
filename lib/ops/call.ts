import { EyrieError } from '../errors.ts';
import { native } from '../native/load.ts';
import type { Handle, NativeOps } from '../native/ops.gen.ts';
import type { DType } from '../tensor/dtype.ts';
import type { Stream } from '../tensor/stream.ts';
import { Tensor, type Weight } from '../tensor/tensor.ts';

/** An optional argument of an op. */
export type Maybe<T> = T | null | undefined;

/** The native functions of the op table. */
export function table(): NativeOps {
  return native().ops;
}

/** The handle of an optional tensor. */
export function handle(t: Maybe<Tensor | Weight>): Handle | null {
  return t ? t.handle : null;
}

/** Calls an op with the output given, or with a new one of this shape, which a refused call does not leave behind. */
export function output(
  stream: Stream,
  out: Maybe<Tensor>,
  shape: readonly number[],
  dtype: DType,
  call: (out: Tensor) => void,
): Tensor {
  const o = out ?? Tensor.empty(stream, dtype, shape);
  try {
    call(o);
  } catch (error) {
    if (!out) o.dispose();
    throw error;
  }
  return o;
}

/** Size `axis` of a tensor; an op whose default output depends on it calls this. */
export function dim(t: Tensor | Weight, axis: number, op: string, name: string): number {
  const d = t.shape[axis];
  if (d === undefined) {
    throw new EyrieError(
      'EYRIE_SHAPE',
      `${op}: ${name} has shape [${t.shape.join(',')}], expected at least ${axis + 1} dimensions`,
    );
  }
  return d;
}
