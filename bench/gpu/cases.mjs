// What bench/gpu.mjs measures. A case gives bytes and operations of one call, from which its floor follows, and a goal.

import { BatchBuffer, Engine, KvCache } from '../../dist/internals.js';
import {
  ACTIVATIONS,
  linear,
  loraExpand,
  loraShrink,
  pagedAttention,
  SAMPLING_COLUMNS,
  sample,
  Tensor,
} from '../../dist/ops/index.js';
import { PAGE, Scope } from '../data.mjs';
import { median } from '../report.mjs';
import { parts } from './parts.mjs';
import { configOf, syntheticModel, tokenBytes } from './synthetic.mjs';
import { timeCalls, timeGraph } from './timing.mjs';

/** Copies of what a call reads go round in this much memory: beyond any L2 cache. */
const COLD = 192e6;

/**
 * @typedef {object} Row
 * @property {string} what
 * @property {number} us
 * @property {number} [bytes] read from memory by one call
 * @property {number} [flops] of tensor cores
 * @property {{ us?: number, share?: number, tflops?: number }} [goal] at most µs, at least a share of the floor, at least TFLOP/s
 */

/** A step of `tokens` rows of one sequence whose cache then holds `length`, as a batch of the model. */
function batchOf(stream, tokens, length) {
  const maxPages = Math.ceil(length / PAGE);
  const buffer = new BatchBuffer(stream, { tokens, sequences: 1, logitRows: tokens }, maxPages);
  const h = buffer.host;
  for (let i = 0; i < tokens; i++) {
    h.ids[i] = 100 + i;
    h.rows[i] = length - tokens + i;
    h.slots[i] = length - tokens + i;
    h.logitRows[i] = i;
  }
  for (let i = 0; i < maxPages; i++) h.blockTable[i] = i;
  h.seqLens[0] = length;
  h.qStart[1] = tokens;
  buffer.upload();
  return buffer;
}

/** A decode step as its graph alone, then tokens of the whole engine. */
function model(shape, format, goals, { context = 512, rows = [1] } = {}) {
  return {
    title: `${shape} ${format}`,
    async *run(stream, { quick }) {
      const name = quick ? 'tiny' : shape;
      const config = configOf(name);
      const started = performance.now();
      const m = await syntheticModel(stream, name, format, 4096);
      const loadMs = performance.now() - started;
      const group = {
        layers: config.layers.length,
        kvHeads: config.kvHeads,
        headDim: config.headDim,
        pageSize: PAGE,
        pages: context / PAGE,
        dtype: 'bf16',
      };
      const weights = tokenBytes(config, format);
      const kv = 4 * config.layers.length * context * config.kvHeads * config.headDim;
      try {
        const cache = new KvCache(stream, group);
        for (const tokens of rows) {
          const buffer = batchOf(stream, tokens, context);
          m.forward(buffer.batch, cache);
          const graph = stream.capture(() => m.forward(buffer.batch, cache));
          const t = await timeGraph(stream, graph, 1, { ms: 40 });
          graph.dispose();
          buffer.dispose();
          const what = tokens === 1 ? 'decode step, graph' : `step of ${tokens} rows, graph`;
          yield {
            what: `${shape} ${format} ${what}, context ${context}`,
            ...t,
            bytes: weights + kv,
            goal: goals[tokens],
            loadMs,
          };
        }
        cache.dispose();
        for (const runAhead of [true, false]) {
          const t = await engineToken(m, quick, runAhead);
          const what = `${shape} ${format} decoded token, engine${runAhead ? '' : ', no run-ahead'}`;
          yield { what, ...t, bytes: weights + kv };
        }
      } finally {
        m.dispose();
        await stream.sync();
      }
    },
  };
}

/** µs between greedy tokens of the engine around 512 tokens of context, and what of it JavaScript was busy. */
async function engineToken(m, quick, runAhead) {
  const count = quick ? 8 : 96;
  const engine = new Engine(m, {
    contextLength: 1024,
    kvTokens: 1024,
    kvDtype: 'bf16',
    maxBatchTokens: 512,
    maxSequences: 1,
    runAhead,
  });
  const times = [];
  const started = performance.now();
  await new Promise((resolve, reject) => {
    engine.submit(
      Array.from({ length: quick ? 16 : 480 }, (_, i) => 3 + (i % 700)),
      {
        sampling: { temperature: 0 },
        maxTokens: count,
        stopIds: new Set(),
        controller: {
          accept() {
            times.push(performance.now());
            return null;
          },
          finish(reason, error) {
            if (error) reject(error);
            else resolve(reason);
          },
        },
      },
    );
  });
  const { steps, hostMs } = engine.stats;
  await engine.close();
  const gaps = times.slice(1).map((t, i) => 1e3 * (t - times[i]));
  const settled = gaps.slice(Math.min(8, gaps.length >> 1));
  return {
    us: median(settled),
    minUs: Math.min(...settled),
    maxUs: Math.max(...settled),
    firstTokenMs: times[0] - started,
    hostUs: (1e3 * hostMs) / steps,
  };
}

const HEADS = { heads: 32, kvHeads: 8, headDim: 128 };

/** Pages, tables and queries of `sequences` sequences of `length` tokens, `rows` of them new. */
function attentionCase(s, { sequences, length, rows, anc = null, cold = COLD, dtype = 'bf16' }) {
  const { heads, kvHeads, headDim } = HEADS;
  const per = length / PAGE;
  const row = dtype === 'bf16' ? 2 * headDim : dtype === 'i8' ? headDim + 2 : headDim;
  const bytes = 2 * sequences * length * kvHeads * row;
  const q = s.f32(sequences * rows, heads, headDim);
  const out = s.f32(sequences * rows, heads, headDim);
  const blockTable = s.i32(
    [sequences, per],
    Array.from({ length: sequences * per }, (_, i) => (i * 7) % (sequences * per)),
  );
  const seqLens = s.i32([sequences], Array(sequences).fill(length));
  const qStart = s.range(sequences + 1, rows);
  const copies = Math.max(1, Math.ceil(cold / bytes));
  const layers = Array.from({ length: copies }, () => s.pages(HEADS, sequences * length, dtype));
  const scale = headDim ** -0.5;
  return {
    calls: layers.map(
      (pages) => () => pagedAttention({ q, pages, blockTable, seqLens, qStart, anc, scale, out }),
    ),
    bytes,
    flops: 4 * sequences * rows * length * heads * headDim,
  };
}

function attention() {
  return {
    title: 'paged attention',
    async *run(stream, { quick }) {
      const [sequences, length, cold] = quick ? [2, 256, 1] : [32, 4096, COLD];
      const s = new Scope(stream);
      try {
        for (const dtype of ['bf16', 'f8_e4m3', 'i8']) {
          const c = attentionCase(s, { sequences, length, rows: 1, cold, dtype });
          const t = await timeCalls(stream, c.calls, { nodes: quick ? 4 : 50 });
          yield {
            what: `paged decode attention ${sequences} x ${length}, 32/8 heads of 128, ${dtype}`,
            ...t,
            bytes: c.bytes,
            ...(dtype === 'bf16' ? { goal: { share: 0.9 } } : {}),
          };
        }
      } finally {
        s.dispose();
      }
      const nodes = 64;
      const one = new Scope(stream);
      try {
        const parents = Array.from({ length: nodes }, (_, i) => (i - 1) >> 1);
        const bits = new Int32Array(nodes * 4);
        for (let i = 0; i < nodes; i++)
          for (let a = i; a >= 0; a = a === 0 ? -1 : parents[a]) bits[4 * i + (a >> 5)] |= 1 << (a & 31);
        const anc = one.i32([nodes, 4], bits);
        const single = await timeCalls(
          stream,
          attentionCase(one, { sequences: 1, length, rows: 1, cold }).calls,
        );
        const c = attentionCase(one, { sequences: 1, length, rows: nodes, anc, cold });
        const tree = await timeCalls(stream, c.calls);
        yield { what: `decode attention of one token at ${length}`, ...single, bytes: c.bytes };
        yield {
          what: `tree of ${nodes} nodes at ${length}`,
          ...tree,
          bytes: c.bytes,
          goal: { us: 1.25 * single.us },
          note: `${(tree.us / single.us).toFixed(2)} times one token`,
        };
      } finally {
        one.dispose();
      }
    },
  };
}

function gemm() {
  return {
    title: 'prefill GEMM',
    async *run(stream, { quick }) {
      const n = quick ? 128 : 8192;
      for (const dtype of ['bf16', 'f32']) {
        const s = new Scope(stream);
        try {
          const [x, out] = [s.of(dtype, n, n), s.of(dtype, n, n)];
          const w = s.weight('bf16', n, n);
          const t = await timeCalls(stream, [() => linear({ x, w, activations: ACTIVATIONS.bf16, out })], {
            nodes: 4,
            ms: 60,
          });
          yield {
            what: `linear ${n}³, bf16 weight, ${dtype} activations`,
            ...t,
            flops: 2 * n ** 3,
            goal: dtype === 'bf16' ? { tflops: 650 } : undefined,
          };
        } finally {
          s.dispose();
        }
      }
      // The formats of a prompt of 512 tokens.
      for (const format of quick ? ['q4_0'] : ['bf16', 'q8_0', 'q4_0', 'i8', 'f8_e4m3', 'i4_g128']) {
        const [t, rows, k] = quick ? [32, 128, 128] : [512, 14336, 4096];
        const s = new Scope(stream);
        try {
          const [x, out] = [s.f32(t, k), s.f32(t, rows)];
          const w = s.weight(format, rows, k);
          const r = await timeCalls(stream, [() => linear({ x, w, out })], { nodes: 20 });
          yield { what: `linear [${t},${k}]·[${rows},${k}], ${format}`, ...r, flops: 2 * t * rows * k };
        } finally {
          s.dispose();
        }
      }
    },
  };
}

/** Updates of rank 16 for a projection of Llama-3.1-8B, rows with four adapters in turn. */
function lora() {
  return {
    title: 'LoRA',
    async *run(stream, { quick }) {
      const [c, rank, slots] = [quick ? 256 : 4096, 16, 4];
      for (const t of [1, 16]) {
        const s = new Scope(stream);
        try {
          const one = slots * rank * c * 2;
          const stacks = Array.from({ length: quick ? 2 : Math.min(64, Math.ceil(COLD / one)) }, () =>
            s.of('bf16', slots, rank, c),
          );
          const [x, v, out] = [s.f32(t, c), s.f32(t, rank), s.f32(t, c)];
          const adapter = s.i32(
            [t],
            Array.from({ length: t }, (_, i) => i % slots),
          );
          const scale = s.f32(slots);
          const bytes = Math.min(t, slots) * rank * c * 2;
          const shrink = stacks.map((a) => () => loraShrink({ x, a, adapter, v }));
          const what = `[${t},${c}], rank ${rank}, ${slots} adapters`;
          yield { what: `lora_shrink ${what}`, ...(await timeCalls(stream, shrink)), bytes };
          const expand = stacks.map((b) => () => loraExpand({ v, b, scale, adapter, out }));
          yield { what: `lora_expand ${what}`, ...(await timeCalls(stream, expand)), bytes };
        } finally {
          s.dispose();
        }
      }
    },
  };
}

function sampling() {
  return {
    title: 'sampling',
    async *run(stream, { quick }) {
      const v = quick ? 2048 : 128256;
      const values = {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.95,
        repetition_penalty: 1.1,
        presence_penalty: 0.1,
      };
      const columns = SAMPLING_COLUMNS.map((c) => values[c.name] ?? c.default);
      for (const [rows, us] of [
        [1, 15],
        [64, 60],
      ]) {
        const s = new Scope(stream);
        try {
          // Exponential tails, as real logits have them; other values for every row.
          const piece = Float32Array.from(
            { length: 65_537 },
            (_, i) => -3 * Math.log(1e-6 + ((i * 0.618034) % 1)),
          );
          const data = Float32Array.from({ length: rows * v }, (_, i) => piece[(i * 31) % 65_537]);
          const copies = quick ? 2 : Math.ceil(COLD / (4 * rows * v));
          const all = Array.from({ length: Math.min(copies, 100) }, () =>
            s.keep(Tensor.from(stream, 'f32', [rows, v], data)),
          );
          const c = s.keep(
            Tensor.from(
              stream,
              'f32',
              [rows, columns.length],
              Float32Array.from(Array(rows).fill(columns).flat()),
            ),
          );
          const counts = s.keep(
            Tensor.from(
              stream,
              'u16',
              [rows, v],
              Uint16Array.from({ length: rows * v }, (_, i) => (i % 97 ? 0 : 2)),
            ),
          );
          const countsRow = s.range(rows);
          const keys = s.i32(
            [rows, 4],
            Array.from({ length: 4 * rows }, (_, i) => (i % 4 === 3 ? 0 : i)),
          );
          const [ids, logprobs] = [s.range(rows), s.f32(rows)];
          const calls = all.map(
            (logits) => () => sample({ logits, columns: c, keys, counts, countsRow, ids, logprobs }),
          );
          const t = await timeCalls(stream, calls);
          yield {
            what: `sample V=${v}, ${rows} rows: penalties, top-k 40, top-p 0.95`,
            ...t,
            bytes: rows * v * 6,
            goal: { us },
          };
        } finally {
          s.dispose();
        }
      }
    },
  };
}

/** Cheap ones first: what the time does not suffice for is the largest. */
export const CASES = [
  sampling(),
  lora(),
  attention(),
  gemm(),
  parts('1B', 'bf16', [1, 8]),
  parts('1B', 'q8_0', [1]),
  parts('1B', 'q4_0', [1, 8]),
  parts('8B', 'bf16', [1]),
  model('1B', 'bf16', { 1: { share: 0.8 } }, { rows: [1, 8] }),
  model('1B', 'q8_0', {}),
  model('1B', 'q4_0', { 1: { share: 0.55 } }),
  model('1B', 'i8', {}),
  model('1B', 'f8_e4m3', {}),
  model('1B', 'i4_g128', { 1: { share: 0.55 } }),
  model('8B', 'q4_0', { 1: { share: 0.7 } }),
  model('8B', 'bf16', { 1: { share: 0.9 } }, { rows: [1, 64] }),
];
