import type { Pages } from '../ops/attention.ts';
import { kvCopyPages } from '../ops/attention.ts';
import type { Stream } from '../tensor/stream.ts';
import { Tensor } from '../tensor/tensor.ts';

export type KvDType = 'f32' | 'f16' | 'bf16';

/** Layers of equal shape. */
export interface KvGroup {
  layers: number;
  kvHeads: number;
  headDim: number;
  pageSize: number;
  pages: number;
  dtype: KvDType;
}

/** Bytes of a cache. */
export function kvBytes(g: KvGroup): number {
  return g.layers * g.pages * 2 * g.kvHeads * g.pageSize * g.headDim * (g.dtype === 'f32' ? 4 : 2);
}

/** The paged keys and values of a model on its device: `[layer][page][K|V][head][slot][headDim]`. */
export class KvCache {
  readonly group: KvGroup;
  /** Pages of each layer, as the ops take them. */
  readonly layers: readonly Pages[];
  readonly bytes: number;
  #memory: Tensor;

  constructor(stream: Stream, group: KvGroup) {
    this.group = group;
    this.bytes = kvBytes(group);
    const { kvHeads: j, headDim: d, pageSize: s, pages: n } = group;
    this.#memory = Tensor.empty(stream, group.dtype, [group.layers, n, 2, j, s * d]);
    const half = j * s * d;
    const strides = [2 * half, s * d, d, 1];
    this.layers = Array.from({ length: group.layers }, (_, layer) => {
      const offset = layer * n * 2 * half;
      return {
        k: this.#memory.view([n, j, s, d], { strides, offset }),
        v: this.#memory.view([n, j, s, d], { strides, offset: offset + half }),
      };
    });
  }

  /** Copies pages in every layer. */
  copyPages(stream: Stream, pairs: readonly { from: number; to: number }[]): void {
    if (pairs.length === 0) return;
    const src = Tensor.from(
      stream,
      'i32',
      [pairs.length],
      Int32Array.from(pairs, (p) => p.from),
    );
    const dst = Tensor.from(
      stream,
      'i32',
      [pairs.length],
      Int32Array.from(pairs, (p) => p.to),
    );
    for (const pages of this.layers) kvCopyPages({ src, dst, pages });
    src.dispose();
    dst.dispose();
  }

  dispose(): void {
    for (const p of this.layers) {
      p.k.dispose();
      p.v.dispose();
    }
    this.#memory.dispose();
  }
}
