// The launches of a decode step one by one, in the shapes of a model: what a step is made of.

import { KvCache } from '../../dist/internals.js';
import {
  ACTIVATIONS,
  fusedGlu,
  fusedQkv,
  linear,
  packWeight,
  pagedAttention,
  Tensor,
} from '../../dist/ops/index.js';
import { PAGE, randomMatrixBytes } from '../data.mjs';
import { bytesOf, configOf } from './synthetic.mjs';
import { timeCalls } from './timing.mjs';

/** Weights go round in this much memory. */
const COLD = 192e6;

/** Cases of one shape and format: µs and bytes of each launch for `rows` rows at a context of `context`. */
export function parts(shape, format, rowCounts, context = 512) {
  return {
    title: `parts of ${shape} ${format}`,
    async *run(stream, { quick }) {
      const c = configOf(quick ? 'tiny' : shape);
      const held = [];
      const keep = (t) => {
        held.push(t);
        return t;
      };
      const block = randomMatrixBytes(format, [4096, 4096]);
      const bytes = new Uint8Array(block.buffer, block.byteOffset, block.byteLength);
      const [q, kv] = [c.heads * c.headDim, c.kvHeads * c.headDim];
      const largest = bytesOf(format, Math.max(c.intermediateSize, 16384), c.hiddenSize);
      const source = keep(Tensor.empty(stream, 'u8', [largest]));
      for (let at = 0; at < largest; at += bytes.length) {
        const n = Math.min(bytes.length, largest - at);
        const view = source.view([n], { offset: at });
        view.write(bytes.subarray(0, n));
        view.dispose();
      }
      const weight = (n, k) => {
        const view = source.view([bytesOf(format, n, k)]);
        const w = keep(packWeight(view, format, [n, k]));
        view.dispose();
        return w;
      };
      const copies = (n) => (quick ? 1 : Math.max(2, Math.ceil(COLD / n)));
      const many = (n, make) => Array.from({ length: copies(n) }, make);
      const cache = keep(
        new KvCache(stream, {
          layers: quick ? 2 : 16,
          kvHeads: c.kvHeads,
          headDim: c.headDim,
          pageSize: PAGE,
          pages: context / PAGE,
          dtype: 'bf16',
        }),
      );
      const ones = (n) => keep(Tensor.from(stream, 'f32', [n], new Float32Array(n).fill(1)));
      const normal = (n, shape) =>
        keep(
          Tensor.from(
            stream,
            'f32',
            shape,
            Float32Array.from({ length: n }, () => Math.random() - 0.5),
          ),
        );
      const ints = (shape, f) =>
        keep(
          Tensor.from(
            stream,
            'i32',
            shape,
            Int32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => f(i)),
          ),
        );
      const norm = ones(c.hiddenSize);
      const table = normal(4096 * c.headDim, [4096, c.headDim]);
      const table0 = ints([1, context / PAGE], (i) => i);
      const length = ints([1], () => context);
      try {
        for (const rows of rowCounts) {
          const x = normal(rows * c.hiddenSize, [rows, c.hiddenSize]);
          const qt = normal(rows * q, [rows, c.heads, c.headDim]);
          const q2 = qt.view([rows, q]);
          const mlp = normal(rows * c.intermediateSize, [rows, c.intermediateSize]);
          const attn = keep(Tensor.empty(stream, 'f32', [rows, c.heads, c.headDim]));
          const positions = ints([rows], (i) => context - rows + i);
          const start = ints([2], (i) => i * rows);
          const bf16 = ACTIVATIONS.bf16;
          const size = (n, k) => bytesOf(format, n, k);
          const layers = cache.layers;
          const kinds = [
            [
              'fused_qkv',
              size(q + 2 * kv, c.hiddenSize),
              many(size(q + 2 * kv, c.hiddenSize), (_, i) => {
                const [wq, wk, wv] = [q, kv, kv].map((n) => weight(n, c.hiddenSize));
                return () =>
                  fusedQkv({
                    x,
                    norm,
                    eps: 1e-5,
                    wq,
                    wk,
                    wv,
                    rope: table,
                    rows: positions,
                    slots: positions,
                    pages: layers[i % layers.length],
                    activations: bf16,
                    out: qt,
                  });
              }),
            ],
            [
              'paged_attention',
              4 * context * kv,
              layers.map(
                (pages) => () =>
                  pagedAttention({
                    q: qt,
                    pages,
                    blockTable: table0,
                    seqLens: length,
                    qStart: start,
                    scale: 0.125,
                    out: attn,
                  }),
              ),
            ],
            [
              'linear o',
              size(c.hiddenSize, q),
              many(size(c.hiddenSize, q), () => {
                const w = weight(c.hiddenSize, q);
                return () => linear({ x: q2, w, residual: x, activations: bf16, out: x });
              }),
            ],
            [
              'fused_glu',
              size(2 * c.intermediateSize, c.hiddenSize),
              many(size(2 * c.intermediateSize, c.hiddenSize), () => {
                const [gate, up] = [0, 1].map(() => weight(c.intermediateSize, c.hiddenSize));
                return () => fusedGlu({ x, norm, eps: 1e-5, gate, up, activations: bf16, out: mlp });
              }),
            ],
            [
              'linear down',
              size(c.hiddenSize, c.intermediateSize),
              many(size(c.hiddenSize, c.intermediateSize), () => {
                const w = weight(c.hiddenSize, c.intermediateSize);
                return () => linear({ x: mlp, w, residual: x, activations: bf16, out: x });
              }),
            ],
          ];
          for (const [what, n, calls] of kinds)
            yield {
              what: `${shape} ${format} ${what}, ${rows} row${rows > 1 ? 's' : ''}`,
              ...(await timeCalls(stream, calls, { ms: 8, rounds: 5 })),
              bytes: n,
            };
          q2.dispose();
        }
      } finally {
        for (const t of held) t.dispose();
        await stream.sync();
      }
    },
  };
}
