import type { Tensor, Weight } from '../tensor/tensor.ts';
import { dim, handle, type Maybe, output, table } from './call.ts';

/** Kinds of `norm`. */
export const NORM = { rms: 0, layer: 1 } as const;
/** Kinds of `act` and `glu` (oai only in `glu`). */
export const ACTIVATION = { silu: 0, gelu_tanh: 1, gelu_erf: 2, relu2: 3, sigmoid: 4, oai: 5 } as const;
/** What a matrix product rounds its activations to: `bf16`, or nothing (`f32`). */
export const ACTIVATIONS = { bf16: 0, f32: 1 } as const;

/** Norm over the last dimension of x[T,G,D]; weight [1,D] or [G,D]. */
export function norm(a: {
  x: Tensor;
  weight?: Maybe<Tensor>;
  bias?: Maybe<Tensor>;
  eps: number;
  kind?: number;
  rounding?: number;
  out?: Maybe<Tensor>;
}): Tensor {
  return output(a.x.stream, a.out, a.x.shape, 'f32', (out) =>
    table().norm(
      a.x.stream.id,
      a.x.handle,
      handle(a.weight),
      handle(a.bias),
      a.eps,
      a.kind ?? NORM.rms,
      a.rounding ?? 0,
      out.handle,
    ),
  );
}

/** x + alpha * y, all [T,D]. */
export function add(a: { x: Tensor; y: Tensor; alpha?: number; out?: Maybe<Tensor> }): Tensor {
  return output(a.x.stream, a.out, a.x.shape, 'f32', (out) =>
    table().add(a.x.stream.id, a.x.handle, a.y.handle, a.alpha ?? 1, out.handle),
  );
}

/** min(max(x, low), high) for x[T,D]. */
export function clamp(a: { x: Tensor; low: number; high: number; out?: Maybe<Tensor> }): Tensor {
  return output(a.x.stream, a.out, a.x.shape, 'f32', (out) =>
    table().clamp(a.x.stream.id, a.x.handle, a.low, a.high, out.handle),
  );
}

/** x[T,K] · w[N,K]ᵀ (+ bias[N]) (+ residual[T,N]): [T,N]. */
export function linear(a: {
  x: Tensor;
  w: Weight;
  bias?: Maybe<Tensor>;
  residual?: Maybe<Tensor>;
  activations?: number;
  out?: Maybe<Tensor>;
}): Tensor {
  return output(a.x.stream, a.out, [dim(a.x, 0, 'linear', 'x'), a.w.shape[0]], 'f32', (out) =>
    table().linear(
      a.x.stream.id,
      a.x.handle,
      a.w.handle,
      handle(a.bias),
      handle(a.residual),
      a.activations ?? ACTIVATIONS.bf16,
      out.handle,
    ),
  );
}

/** act(gate) * up, all [T,I]. */
export function glu(a: {
  gate: Tensor;
  up: Tensor;
  kind?: number;
  limit?: number;
  alpha?: number;
  out?: Maybe<Tensor>;
}): Tensor {
  return output(a.gate.stream, a.out, a.gate.shape, 'f32', (out) =>
    table().glu(
      a.gate.stream.id,
      a.gate.handle,
      a.up.handle,
      a.kind ?? ACTIVATION.silu,
      a.limit ?? 0,
      a.alpha ?? 1,
      out.handle,
    ),
  );
}

/** Activation of x[T,I]. */
export function act(a: { x: Tensor; kind: number; out?: Maybe<Tensor> }): Tensor {
  return output(a.x.stream, a.out, a.x.shape, 'f32', (out) =>
    table().act(a.x.stream.id, a.x.handle, a.kind, out.handle),
  );
}

/** x = softcap(scale * x) in place for logits [R,V]; ids from `valid` on become -inf. */
export function logits(a: { x: Tensor; scale?: number; softcap?: number; valid?: number }): void {
  table().logits(
    a.x.stream.id,
    a.x.handle,
    a.scale ?? 1,
    a.softcap ?? 0,
    a.valid ?? dim(a.x, 1, 'logits', 'x'),
  );
}

/** Norm + gate and up projections + gated activation in one launch: [T,I]. */
export function fusedGlu(a: {
  x: Tensor;
  norm?: Maybe<Tensor>;
  eps: number;
  gate: Weight;
  up: Weight;
  kind?: number;
  activations?: number;
  out?: Maybe<Tensor>;
}): Tensor {
  return output(a.x.stream, a.out, [dim(a.x, 0, 'fused_glu', 'x'), a.gate.shape[0]], 'f32', (out) =>
    table().fused_glu(
      a.x.stream.id,
      a.x.handle,
      handle(a.norm),
      a.eps,
      a.gate.handle,
      a.up.handle,
      a.kind ?? ACTIVATION.silu,
      a.activations ?? ACTIVATIONS.bf16,
      out.handle,
    ),
  );
}
