import { expect, it } from 'vitest';
import {
  ACTIVATION,
  ACTIVATIONS,
  fusedGlu,
  fusedQkv,
  glu,
  kvWrite,
  linear,
  norm,
  rope,
  type Stream,
  Tensor,
  type Weight,
  type WeightFormat,
} from '../../lib/ops/index.ts';
import { describeLevels, guarded } from '../helpers/describe-op.ts';
import { firstDifference } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';
import { blockOf, formatsOf, randomMatrix, upload } from './matrix.ts';

const EPS = 1e-5;

/** Every tensor of a test, freed together. */
class Scope {
  readonly stream: Stream;
  readonly random: Random;
  readonly #held: { dispose(): void }[] = [];

  constructor(stream: Stream, seed: number) {
    this.stream = stream;
    this.random = new Random(seed);
  }

  keep<T extends { dispose(): void }>(held: T): T {
    this.#held.push(held);
    return held;
  }
  normal(...shape: number[]): Tensor {
    const n = shape.reduce((a, b) => a * b, 1);
    return this.keep(Tensor.from(this.stream, 'f32', shape, this.random.normal(n)));
  }
  integers(values: number[]): Tensor {
    return this.keep(Tensor.from(this.stream, 'i32', [values.length], Int32Array.from(values)));
  }
  weight(format: WeightFormat, N: number, K: number): Weight {
    return this.keep(upload(this.stream, randomMatrix(this.random, format, N, K)));
  }
  /** The same memory as [T, rest]. */
  rows(x: Tensor): Tensor {
    return this.keep(x.view([x.shape[0]!, x.size / x.shape[0]!]));
  }
  heads(x: Tensor, D: number): Tensor {
    return this.keep(x.view([x.shape[0]!, x.shape[1]! / D, D]));
  }
  rms(x: Tensor, weight: Tensor | null): Tensor {
    const D = x.shape[x.shape.length - 1]!;
    const grouped = x.shape.length === 3 ? x : this.keep(x.view([x.shape[0]!, 1, D]));
    const w = weight && this.keep(weight.view([1, D]));
    return this.keep(norm({ x: grouped, weight: w, eps: EPS }));
  }
  dispose(): void {
    for (const held of this.#held) held.dispose();
  }
}

/** Formats of a file that met in one launch need different things of their activations: scaled, not scaled, sums of halves. */
const MIXED = [
  ['q4_k', 'q6_k'],
  ['iq4_xs', 'q5_0'],
  ['q2_k', 'mxfp4'],
  ['bf16', 'q3_k'],
] as const;

describeLevels('fused_glu', (stream, backend) => {
  for (const [name, kind] of Object.entries(ACTIVATION)) {
    if (name === 'oai') continue;
    for (const T of [1, 3, 9, 40]) {
      it(`${name}, ${T} rows: the bits of norm, linear, linear, glu`, async () => {
        for (const [gateFormat, upFormat] of [
          ...formatsOf(backend).map((f) => [f, f] as const),
          ['q8_0', 'q4_1'] as const,
          ...(backend.cuda ? [] : MIXED),
        ]) {
          const s = new Scope(stream(), T);
          const C = Math.max(96, blockOf(gateFormat), blockOf(upFormat));
          const I = 72;
          const x = s.normal(T, C);
          const weight = s.normal(C);
          const gate = s.weight(gateFormat, I, C);
          const up = s.weight(upFormat, I, C);
          for (const [normed, activations] of [
            [true, ACTIVATIONS.bf16],
            [false, ACTIVATIONS.f32],
          ] as const) {
            const out = s.keep(guarded(s.stream, 'f32', [T, I]));
            fusedGlu({
              x,
              norm: normed ? weight : null,
              eps: EPS,
              gate,
              up,
              kind,
              activations,
              out: out.tensor,
            });
            const h = normed ? s.rows(s.rms(x, weight)) : x;
            const g = s.keep(linear({ x: h, w: gate, activations }));
            const u = s.keep(linear({ x: h, w: up, activations }));
            const want = s.keep(glu({ gate: g, up: u, kind }));
            expect(firstDifference(await out.read(), await want.read()), `${gateFormat} ${upFormat}`).toBe(
              -1,
            );
          }
          s.dispose();
        }
      });
    }
  }
});

describeLevels('fused_qkv', (stream) => {
  const [C, H, J, D, E, R, P, N, S] = [96, 6, 3, 24, 16, 16, 50, 4, 16];
  for (const kv of ['f32', 'f16', 'bf16', 'f8_e4m3', 'i8'] as const) {
    for (const T of [1, 2, 11, 40]) {
      for (const [label, wq, wk, wv] of [
        ['q4_1', 'q4_1', 'q4_1', 'q4_1'],
        ['q4_0 with a q8_0 v', 'q4_0', 'q4_0', 'q8_0'],
        ['bf16', 'bf16', 'bf16', 'bf16'],
        ['f16 and f32', 'f16', 'f32', 'f32'],
      ] as const) {
        it(`${label}, ${kv} pages, ${T} rows: the bits of the primitives`, async () => {
          for (const full of [true, false]) {
            const s = new Scope(stream(), T);
            const x = s.normal(T, C);
            const weights = {
              wq: s.weight(wq, H * D, C),
              wk: s.weight(wk, J * D, C),
              wv: s.weight(wv, J * E, C),
            };
            const preNorm = full ? s.normal(C) : null;
            const bias = full ? { bq: s.normal(H * D), bk: s.normal(J * D), bv: s.normal(J * E) } : {};
            const qNorm = full ? s.normal(D) : null;
            const kNorm = full ? s.normal(D) : null;
            const table = full ? s.normal(P, R) : null;
            const rows = s.integers(Array.from({ length: T }, () => s.random.integer(0, P)));
            const slots = s.integers(
              s.random
                .permutation(N * S)
                .slice(0, T)
                .map((slot, i) => (i === 4 ? -1 : slot)),
            );
            const plane = () => s.keep(Tensor.empty(s.stream, 'f16', [N, J, S]));
            const scale = (...of: number[]) =>
              s.keep(Tensor.from(s.stream, 'f32', [J], Float32Array.from(of)));
            const emptyPages = () => ({
              k: s.keep(Tensor.empty(s.stream, kv, [N, J, S, D])),
              v: s.keep(Tensor.empty(s.stream, kv, [N, J, S, E])),
              ...(kv === 'i8' ? { kScales: plane(), vScales: plane() } : {}),
              ...(kv === 'f8_e4m3' ? { kScale: scale(1, 0.3, 2), vScale: scale(0.7, 1, 0.01) } : {}),
            });
            const pages = emptyPages();
            const out = s.keep(guarded(s.stream, 'f32', [T, H, D]));
            fusedQkv({
              x,
              norm: preNorm,
              eps: EPS,
              ...weights,
              ...bias,
              qNorm,
              kNorm,
              rope: table,
              rows,
              slots,
              pages,
              out: out.tensor,
            });

            const h = preNorm ? s.rows(s.rms(x, preNorm)) : x;
            let q = s.heads(s.keep(linear({ x: h, w: weights.wq, bias: bias.bq })), D);
            let k = s.heads(s.keep(linear({ x: h, w: weights.wk, bias: bias.bk })), D);
            const v = s.heads(s.keep(linear({ x: h, w: weights.wv, bias: bias.bv })), E);
            if (qNorm) q = s.rms(q, qNorm);
            if (kNorm) k = s.rms(k, kNorm);
            if (table) for (const t of [q, k]) rope({ x: t, table, rows });
            const want = emptyPages();
            kvWrite({ k, v, slots, pages: want });
            expect(firstDifference(await out.read(), await q.read()), 'q').toBe(-1);
            expect(firstDifference(await pages.k.read(), await want.k.read()), 'k pages').toBe(-1);
            expect(firstDifference(await pages.v.read(), await want.v.read()), 'v pages').toBe(-1);
            for (const plane of ['kScales', 'vScales'] as const)
              if (pages[plane])
                expect(firstDifference(await pages[plane].read(), await want[plane]!.read()), plane).toBe(-1);
            s.dispose();
          }
        });
      }
    }
  }
});
