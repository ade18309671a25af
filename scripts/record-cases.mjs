// Launches in sizes of real models, for scripts/record.mjs: larger than tests on a CPU want to be. Inputs are periodic, so that the
// records compress well. Runs in a process of its own, with EYRIE_RECORD set.

import { FORMATS, PAGE, Scope } from '../bench/data.mjs';
import {
  ACTIVATIONS,
  embed,
  fusedGlu,
  fusedQkv,
  glu,
  kvWrite,
  linear,
  loraExpand,
  loraShrink,
  norm,
  pagedAttention,
  SAMPLING_COLUMNS,
  Stream,
  sample,
  Tensor,
} from '../dist/ops/index.js';

const stream = new Stream();
const EPS = 1e-5;

async function scoped(body) {
  const s = new Scope(stream);
  body(s);
  await stream.sync();
  s.dispose();
}

for (const format of FORMATS) {
  const activations = format === 'f32' || format === 'f16' ? ACTIVATIONS.f32 : ACTIVATIONS.bf16;
  for (const [t, n, k, residual] of [
    [1, 1024, 2048, true],
    [5, 512, 2048, false],
    [20, 256, 1024, true],
    [64, 256, 512, false],
    [200, 192, 1024, true],
  ])
    await scoped((s) => {
      const [x, w] = [s.f32(t, k), s.weight(format, n, k)];
      linear({ x, w, activations, residual: residual ? s.f32(t, n) : null, out: s.f32(t, n) });
    });
  await scoped((s) => {
    const table = s.weight(format, 2000, 512);
    embed({ table, ids: s.i32([5], [0, 1999, 7, 7, 1000]), out: s.f32(5, 512) });
  });
}

for (const [t, c, rank, slots] of [
  [1, 2048, 16, 1],
  [16, 2048, 64, 4],
  [130, 1024, 16, 4],
])
  await scoped((s) => {
    const adapter = s.i32(
      [t],
      Array.from({ length: t }, (_, i) => (i % (slots + 1)) - 1),
    );
    const [a, b] = [s.of('bf16', slots, rank, c), s.of('f16', slots, rank, c)];
    loraShrink({ x: s.f32(t, c), a, adapter, v: s.f32(t, rank) });
    loraExpand({ v: s.f32(t, rank), b, scale: s.f32(slots), adapter, out: s.f32(t, c) });
  });

// Llama-3.2-1B and 3.1-8B: heads of 64 and 128.
for (const [heads, kvHeads, headDim] of [
  [32, 8, 64],
  [8, 2, 128],
])
  for (const dtype of ['f16', 'bf16', 'f8_e4m3', 'i8']) {
    const m = { heads, kvHeads, headDim };
    const attend = (lengths, rows, tree, window = 0) =>
      scoped((s) => {
        const pagesOf = lengths.map((n) => Math.ceil(n / PAGE));
        const most = Math.max(...pagesOf);
        const total = pagesOf.reduce((a, n) => a + n, 0);
        const table = new Int32Array(lengths.length * most);
        let next = 0;
        for (const [b, n] of pagesOf.entries())
          for (let i = 0; i < n; i++) table[b * most + i] = (next++ * 7919) % total;
        const starts = [0];
        for (const n of rows) starts.push(starts.at(-1) + n);
        const t = starts.at(-1);
        let anc = null;
        if (tree) {
          const bits = new Int32Array(4 * t);
          for (let i = 0; i < t; i++)
            for (let a = i; a >= 0; a = a === 0 ? -1 : (a - 1) >> 1) bits[4 * i + (a >> 5)] |= 1 << (a & 31);
          anc = s.i32([t, 4], bits);
        }
        pagedAttention({
          q: s.f32(t, heads, headDim),
          pages: s.pages(m, total * PAGE, dtype),
          blockTable: s.i32([lengths.length, most], table),
          seqLens: s.i32([lengths.length], lengths),
          qStart: s.i32([starts.length], starts),
          anc,
          scale: headDim ** -0.5,
          window,
          out: s.f32(t, heads, headDim),
        });
      });
    await attend([1000, 37, 1500], [1, 1, 1], false);
    // Several rows go one way in both types; their results are what does not compress.
    if (dtype === 'bf16') await attend([700, 129], [24, 3], false);
    if (dtype === 'bf16') await attend([600], [40], true);
    await attend([900], [1], false, 256);
  }

const oneB = { heads: 32, kvHeads: 8, headDim: 64 };
for (const format of ['bf16', 'q8_0', 'q4_0', 'q4_1'])
  for (const t of [1, 3, 18]) {
    await scoped((s) => {
      const c = 1024;
      const rows = s.range(t);
      const [q, kv] = [16 * 64, 4 * 64];
      fusedQkv({
        x: s.f32(t, c),
        norm: s.f32(c),
        eps: EPS,
        wq: s.weight(format, q, c),
        wk: s.weight(format, kv, c),
        wv: s.weight(format, kv, c),
        rope: s.f32(64, 64),
        rows,
        slots: rows,
        pages: s.pages({ ...oneB, kvHeads: 4 }, 64),
        out: s.f32(t, 16, 64),
      });
    });
    await scoped((s) => {
      const [c, i] = [1024, 1024];
      const [gate, up] = [s.weight(format, i, c), s.weight(format, i, c)];
      fusedGlu({ x: s.f32(t, c), norm: s.f32(c), eps: EPS, gate, up, out: s.f32(t, i) });
    });
  }

await scoped((s) => {
  const [x, weight] = [s.f32(6, 1, 4096), s.f32(1, 4096)];
  norm({ x, weight, eps: EPS, out: s.f32(6, 1, 4096) });
});
await scoped((s) => {
  glu({ gate: s.f32(3, 8192), up: s.f32(3, 8192), out: s.f32(3, 8192) });
});
await scoped((s) => {
  const [k, v] = [s.f32(300, 8, 64), s.f32(300, 8, 64)];
  kvWrite({ k, v, slots: s.range(300), pages: s.pages(oneB, 320) });
});

const V = 128256;
for (const [rows, settings] of [
  [1, { temperature: 0 }],
  [3, { temperature: 0.8, top_k: 40, top_p: 0.95, repetition_penalty: 1.1 }],
  [2, { temperature: 1, top_p: 0.9 }],
  [2, { temperature: 0.7, min_p: 0.02 }],
])
  await scoped((s) => {
    const data = Float32Array.from(
      { length: rows * V },
      (_, i) => -3 * Math.log(1e-6 + (((i % 65537) * 0.618034) % 1)),
    );
    const columns = SAMPLING_COLUMNS.map((c) => settings[c.name] ?? c.default);
    sample({
      logits: s.keep(Tensor.from(stream, 'f32', [rows, V], data)),
      columns: s.keep(
        Tensor.from(
          stream,
          'f32',
          [rows, columns.length],
          Float32Array.from(Array(rows).fill(columns).flat()),
        ),
      ),
      keys: s.i32(
        [rows, 4],
        Array.from({ length: 4 * rows }, (_, i) => (i % 4 === 3 ? 0 : 11 + i)),
      ),
      counts: s.keep(
        Tensor.from(
          stream,
          'u16',
          [rows, V],
          Uint16Array.from({ length: rows * V }, (_, i) => (i % 97 ? 0 : 2)),
        ),
      ),
      countsRow: s.range(rows),
      ids: s.range(rows),
      logprobs: s.f32(rows),
    });
  });
stream.dispose();
