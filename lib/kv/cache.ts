import type { Pages } from '../ops/attention.ts';
import { kvCopyPages } from '../ops/attention.ts';
import { DTYPE_BYTES } from '../tensor/dtype.ts';
import type { Stream } from '../tensor/stream.ts';
import { Tensor } from '../tensor/tensor.ts';
import type { KvDType } from './dtype.ts';

export type { KvDType };

/** Layers of equal shape. */
export interface KvGroup {
  layers: number;
  kvHeads: number;
  headDim: number;
  pageSize: number;
  pages: number;
  dtype: KvDType;
}

/** Bytes of a cache, its scales included. */
export function kvBytes(g: KvGroup): number {
  const rows = g.layers * g.pages * 2 * g.kvHeads * g.pageSize;
  const scales = g.dtype === 'i8' ? rows * 2 : g.dtype === 'f8_e4m3' ? g.layers * 2 * g.kvHeads * 4 : 0;
  return rows * g.headDim * DTYPE_BYTES[g.dtype] + scales;
}

/**
 * The paged keys and values of a model on its device: `[layer][page][K|V][head][slot][headDim]`; scales of i8 rows in a tensor of
 * their own, `[layer][page][K|V][head][slot]`, those of f8_e4m3 `[layer][K|V][head]`.
 */
export class KvCache {
  readonly group: KvGroup;
  /** Pages of each layer, as the ops take them. */
  readonly layers: readonly Pages[];
  readonly bytes: number;
  #memory: Tensor[] = [];

  constructor(stream: Stream, group: KvGroup) {
    this.group = group;
    this.bytes = kvBytes(group);
    const { kvHeads: j, headDim: d, pageSize: s, pages: n, dtype } = group;
    const rows = this.#keep(Tensor.empty(stream, dtype, [group.layers, n, 2, j, s * d]));
    const half = j * s * d;
    const strides = [2 * half, s * d, d, 1];
    this.layers = Array.from({ length: group.layers }, (_, layer) => {
      const offset = layer * n * 2 * half;
      return {
        k: rows.view([n, j, s, d], { strides, offset }),
        v: rows.view([n, j, s, d], { strides, offset: offset + half }),
      };
    });
    if (dtype === 'f8_e4m3') this.#addScale(stream);
    if (dtype === 'i8') this.#addScales(stream);
  }

  #keep(memory: Tensor): Tensor {
    this.#memory.push(memory);
    return memory;
  }

  /** One fixed scale a head: 1. Reading calibrated ones out of a checkpoint is not built. */
  #addScale(stream: Stream): void {
    const { layers, kvHeads: j } = this.group;
    const ones = new Float32Array(layers * 2 * j).fill(1);
    const scale = this.#keep(Tensor.from(stream, 'f32', [layers, 2, j], ones));
    for (const [layer, pages] of this.layers.entries()) {
      pages.kScale = scale.view([j], { offset: layer * 2 * j });
      pages.vScale = scale.view([j], { offset: (layer * 2 + 1) * j });
    }
  }

  /** One scale a row, written with it. */
  #addScales(stream: Stream): void {
    const { layers, kvHeads: j, pageSize: s, pages: n } = this.group;
    const plane = this.#keep(Tensor.empty(stream, 'f16', [layers, n, 2, j, s]));
    const strides = [2 * j * s, s, 1];
    for (const [layer, pages] of this.layers.entries()) {
      const offset = layer * n * 2 * j * s;
      pages.kScales = plane.view([n, j, s], { strides, offset });
      pages.vScales = plane.view([n, j, s], { strides, offset: offset + j * s });
    }
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
    for (const p of this.layers)
      for (const t of [p.k, p.v, p.kScale, p.vScale, p.kScales, p.vScales]) t?.dispose();
    for (const t of this.#memory) t.dispose();
  }
}
