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

/** Calls an op with the outputs given, and with new ones of these shapes for the rest, which a refused call does not leave behind. */
export function outputs<K extends string>(
  stream: Stream,
  dtype: DType,
  given: Partial<Record<K, Maybe<Tensor>>>,
  shapes: Record<K, readonly number[]>,
  call: (outputs: Record<K, Tensor>) => void,
): Record<K, Tensor> {
  const made: Tensor[] = [];
  const all = {} as Record<K, Tensor>;
  try {
    for (const name of Object.keys(shapes) as K[]) {
      const own = given[name];
      all[name] = own ?? Tensor.empty(stream, dtype, shapes[name]);
      if (!own) made.push(all[name]);
    }
    call(all);
  } catch (error) {
    for (const t of made) t.dispose();
    throw error;
  }
  return all;
}

/** The same for an op with one output. */
export function output(
  stream: Stream,
  out: Maybe<Tensor>,
  shape: readonly number[],
  dtype: DType,
  call: (out: Tensor) => void,
): Tensor {
  return outputs(stream, dtype, { out }, { out: shape }, (o) => call(o.out)).out;
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
