// What `bench:ops` measures: each op of the table in shapes of SmolLM2-135M and Llama-3.2-1B.
import {
  ACTIVATION,
  ACTIVATIONS,
  act,
  add,
  cast,
  clamp,
  embed,
  fusedGlu,
  fusedQkv,
  glu,
  kvCompact,
  kvCopyPages,
  kvWrite,
  linear,
  logits,
  loraExpand,
  loraShrink,
  norm,
  pagedAttention,
  rope,
  SAMPLING_COLUMNS,
  sample,
  Tensor,
  takeRows,
  treeAccept,
  treePrepare,
} from '../dist/ops/index.js';
import {
  blockBytes,
  FORMATS,
  isMade,
  makeWeight,
  PAGE,
  randomMatrixBytes,
  Scope,
  sourceFormat,
} from './data.mjs';

export const MODELS = [
  { name: '135M', hidden: 576, heads: 9, kvHeads: 3, headDim: 64, ffn: 1536, vocab: 49152 },
  { name: '1B', hidden: 2048, heads: 32, kvHeads: 8, headDim: 64, ffn: 8192, vocab: 128256 },
];

/**
 * @typedef {object} Case
 * @property {string} what shape and format
 * @property {(() => void)[]} calls the same work on copies of its weights, so that these come from memory as in a model
 * @property {number} [cold] bytes from memory
 * @property {number} [warm] bytes between caches and cores
 * @property {number} [flops]
 * @property {'f32' | 'bf16'} [mode] what a product rounds its inputs to
 * @property {() => void} dispose
 */

const EPS = 1e-5;
const weightBytes = (format, n, k) => (n * k * blockBytes(format)) / 32;
const modeOf = (format) => (format === 'f32' || format === 'f16' ? 'f32' : 'bf16');

/** An op and the maker of a case: cases are made one by one, since together their weights would not fit. */
function of(op, make) {
  return { op, make };
}

function matrices(m, quick) {
  const rows = quick ? [1, 16] : [1, 4, 16, 64, 512];
  const down = FORMATS.flatMap((format) => rows.map((t) => [format, t, m.hidden, m.ffn]));
  const head = (quick ? [1] : [1, 16]).map((t) => ['q8_0', t, m.vocab, m.hidden]);
  return [...down, ...head].map(([format, t, n, k]) =>
    of('linear', (s) => {
      const bytes = weightBytes(format, n, k);
      const [x, out] = [s.f32(t, k), s.f32(t, n)];
      const weights = s.copies(bytes, () => s.weight(format, n, k));
      const activations = ACTIVATIONS[modeOf(format)];
      return {
        what: `${format} [${t},${k}]·[${n},${k}]`,
        calls: weights.map((w) => () => linear({ x, w, activations, out })),
        cold: bytes,
        flops: 2 * t * n * k,
        mode: modeOf(format),
      };
    }),
  );
}

function fused(m, quick) {
  const [c, d] = [m.hidden, m.headDim];
  const [q, kv] = [m.heads * d, m.kvHeads * d];
  const format = 'q4_1';
  return (quick ? [1, 16] : [1, 4, 16, 64, 512]).flatMap((t) => [
    of('fused_qkv', (s) => {
      const bytes = weightBytes(format, q + 2 * kv, c);
      const [x, norm, out] = [s.f32(t, c), s.f32(c), s.f32(t, m.heads, d)];
      const [table, rows, pages] = [s.f32(1024, d), s.range(t), s.pages(m, Math.max(512, t))];
      const weights = s.copies(bytes, () => [q, kv, kv].map((n) => s.weight(format, n, c)));
      return {
        what: `${format} T=${t} C=${c} [${q}+2·${kv}]`,
        calls: weights.map(([wq, wk, wv]) => () => {
          fusedQkv({ x, norm, eps: EPS, wq, wk, wv, rope: table, rows, slots: rows, pages, out });
        }),
        cold: bytes,
        flops: 2 * t * (q + 2 * kv) * c,
        mode: 'bf16',
      };
    }),
    of('fused_glu', (s) => {
      const bytes = weightBytes(format, 2 * m.ffn, c);
      const [x, norm, out] = [s.f32(t, c), s.f32(c), s.f32(t, m.ffn)];
      const weights = s.copies(bytes, () => [0, 1].map(() => s.weight(format, m.ffn, c)));
      return {
        what: `${format} T=${t} C=${c} [2·${m.ffn}]`,
        calls: weights.map(
          ([gate, up]) =>
            () =>
              fusedGlu({ x, norm, eps: EPS, gate, up, out }),
        ),
        cold: bytes,
        flops: 4 * t * m.ffn * c,
        mode: 'bf16',
      };
    }),
  ]);
}

/** Bytes of a cached row of d numbers, its scale included. */
const pageRowBytes = (dtype, d) => (dtype === 'f16' ? 2 * d : dtype === 'i8' ? d + 2 : d);

function attention(m, quick) {
  const [h, j, d] = [m.heads, m.kvHeads, m.headDim];
  const one = (what, sequences, length, newTokens, dtype = 'f16') =>
    of('paged_attention', (s) => {
      const t = sequences * newTokens;
      const perSequence = Math.ceil(length / PAGE);
      const bytes = sequences * length * 2 * j * pageRowBytes(dtype, d);
      const [q, out] = [s.f32(t, h, d), s.f32(t, h, d)];
      const blockTable = s.i32(
        [sequences, perSequence],
        Array.from({ length: sequences * perSequence }, (_, i) => i),
      );
      const seqLens = s.i32([sequences], Array(sequences).fill(length));
      const qStart = s.range(sequences + 1, newTokens);
      const layers = s.copies(bytes, () => s.pages(m, sequences * perSequence * PAGE, dtype));
      const scale = d ** -0.5;
      // Rows of a causal block see half of it on average.
      const seen = sequences * newTokens * (length - (newTokens - 1) / 2);
      return {
        what: `${dtype} ${what} H=${h}/${j}`,
        calls: layers.map(
          (pages) => () => pagedAttention({ q, pages, blockTable, seqLens, qStart, scale, out }),
        ),
        cold: bytes,
        flops: 4 * seen * h * d,
      };
    });
  const cases = [one('B=1 len 1024', 1, 1024, 1), one('prefill 512', 1, 512, 512)];
  for (const dtype of ['f8_e4m3', 'i8']) cases.push(one('B=1 len 1024', 1, 1024, 1, dtype));
  if (!quick) cases.push(one('B=16 len 512', 16, 512, 1), one('B=1 len 4096', 1, 4096, 1));
  return cases;
}

/** Rank 16, four adapters of a projection as wide as the model; row i has adapter i mod 4. */
function lora(m, quick) {
  const [c, rank, slots] = [m.hidden, 16, 4];
  return (quick ? [1] : [1, 16, 512]).flatMap((t) => {
    const [cold, flops] = [Math.min(t, slots) * rank * c * 2, 2 * t * rank * c];
    const all = slots * rank * c * 2;
    const what = `bf16 [${t},${c}] rank ${rank}, ${slots} adapters`;
    const adapterOf = (s) =>
      s.i32(
        [t],
        Array.from({ length: t }, (_, i) => i % slots),
      );
    return [
      of('lora_shrink', (s) => {
        const [x, v, adapter] = [s.f32(t, c), s.f32(t, rank), adapterOf(s)];
        const stacks = s.copies(all, () => s.of('bf16', slots, rank, c));
        return { what, calls: stacks.map((a) => () => loraShrink({ x, a, adapter, v })), cold, flops };
      }),
      of('lora_expand', (s) => {
        const [v, out, adapter, scale] = [s.f32(t, rank), s.f32(t, c), adapterOf(s), s.f32(slots)];
        const stacks = s.copies(all, () => s.of('bf16', slots, rank, c));
        const calls = stacks.map((b) => () => loraExpand({ v, b, scale, adapter, out }));
        return { what, calls, cold, flops };
      }),
    ];
  });
}

/** Ops on activations: everything they touch is in the caches in a model too. */
function rowwise(m, quick) {
  const [c, d, i, v] = [m.hidden, m.headDim, m.ffn, m.vocab];
  const f = 4;
  return (quick ? [1] : [1, 16, 512]).flatMap((t) => [
    of('norm', (s) => {
      const [x, weight, out] = [s.f32(t, 1, c), s.f32(1, c), s.f32(t, 1, c)];
      const calls = [() => norm({ x, weight, eps: EPS, out })];
      return { what: `[${t},1,${c}]`, calls, warm: 2 * t * c * f };
    }),
    of('add', (s) => {
      const [x, y, out] = [s.f32(t, c), s.f32(t, c), s.f32(t, c)];
      return { what: `[${t},${c}]`, calls: [() => add({ x, y, out })], warm: 3 * t * c * f };
    }),
    of('clamp', (s) => {
      const [x, out] = [s.f32(t, c), s.f32(t, c)];
      return { what: `[${t},${c}]`, calls: [() => clamp({ x, low: -8, high: 8, out })], warm: 2 * t * c * f };
    }),
    of('take_rows', (s) => {
      const [x, rows, out] = [s.f32(t, c), s.range(t), s.f32(t, c)];
      const calls = [() => takeRows({ x, rows, out })];
      return { what: `[${t},${c}]`, calls, warm: 2 * t * c * f };
    }),
    of('rope', (s) => {
      const [x, table, rows] = [s.f32(t, m.heads, d), s.f32(1024, d), s.range(t)];
      const calls = [() => rope({ x, table, rows })];
      return { what: `[${t},${m.heads},${d}]`, calls, warm: 2 * t * m.heads * d * f };
    }),
    of('kv_write', (s) => {
      const [k, value] = [s.f32(t, m.kvHeads, d), s.f32(t, m.kvHeads, d)];
      const [slots, pages] = [s.range(t), s.pages(m, 512)];
      const calls = [() => kvWrite({ k, v: value, slots, pages })];
      return { what: `f16 [${t},${m.kvHeads},${d}]`, calls, warm: 12 * t * m.kvHeads * d };
    }),
    of('glu', (s) => {
      const [gate, up, out] = [s.f32(t, i), s.f32(t, i), s.f32(t, i)];
      const calls = [() => glu({ gate, up, out })];
      return { what: `silu [${t},${i}]`, calls, warm: 3 * t * i * f };
    }),
    of('act', (s) => {
      const [x, out] = [s.f32(t, i), s.f32(t, i)];
      const calls = [() => act({ x, kind: ACTIVATION.gelu_tanh, out })];
      return { what: `gelu_tanh [${t},${i}]`, calls, warm: 2 * t * i * f };
    }),
    of('embed', (s) => {
      const bytes = weightBytes('q8_0', v, c);
      const ids = s.i32(
        [t],
        Array.from({ length: t }, (_, r) => (r * 7919) % v),
      );
      const [table, out] = [s.weight('q8_0', v, c), s.f32(t, c)];
      const calls = [() => embed({ table, ids, out })];
      return { what: `q8_0 [${v},${c}] T=${t}`, calls, warm: (bytes / v) * t + t * c * f };
    }),
  ]);
}

function vocabulary(m, quick) {
  const v = m.vocab;
  const columns = (values) => SAMPLING_COLUMNS.map((c) => values[c.name] ?? c.default);
  const settings = [
    ['greedy', { temperature: 0 }],
    ['temperature', { temperature: 0.8 }],
    ['top-k 40, top-p 0.95', { temperature: 0.8, topK: 40, topP: 0.95 }],
  ];
  return (quick ? [1] : [1, 16]).flatMap((r) => [
    of('logits', (s) => {
      const x = s.f32(r, v);
      const calls = [() => logits({ x, scale: 1, softcap: 30 })];
      return { what: `softcap [${r},${v}]`, calls, warm: 8 * r * v };
    }),
    ...settings.map(([what, values]) =>
      of('sample', (s) => {
        const [x, ids, logprobs] = [s.f32(r, v), s.range(r), s.f32(r)];
        const c = s.keep(
          Tensor.from(
            s.stream,
            'f32',
            [r, SAMPLING_COLUMNS.length],
            Float32Array.from(Array(r).fill(columns(values)).flat()),
          ),
        );
        const keys = s.i32(
          [r, 4],
          Array.from({ length: 4 * r }, (_, i) => i),
        );
        return {
          what: `${what} [${r},${v}]`,
          calls: [() => sample({ logits: x, columns: c, keys, ids, logprobs })],
          warm: 4 * r * v,
        };
      }),
    ),
  ]);
}

function cacheMoves(m) {
  const [j, d] = [m.kvHeads, m.headDim];
  const [b, q] = [4, 16];
  return [
    of('tree_prepare', (s) => {
      const parents = s.i32(
        [b, q],
        Array.from({ length: b * q }, (_, i) => (i % q === 0 ? -1 : ((i % q) - 1) >> 1)),
      );
      const [numNodes, base] = [s.i32([b], Array(b).fill(q)), s.i32([b], Array(b).fill(100))];
      const blockTable = s.i32(
        [b, 4],
        Array.from({ length: 4 * b }, (_, i) => i),
      );
      const zeros = (...shape) => s.i32(shape, Array(shape.reduce((x, y) => x * y, 1)).fill(0));
      const [anc, rows, slots, seqLens] = [zeros(b, q, 4), zeros(b, q), zeros(b, q), zeros(b)];
      const into = { anc, rows, slots, seqLens };
      const calls = [() => treePrepare({ parents, numNodes, base, blockTable, pageSize: PAGE, ...into })];
      return { what: `[${b},${q}]`, calls, warm: 28 * b * q };
    }),
    of('tree_accept', (s) => {
      // A chain: every node's only child follows it, and half of the draft is right.
      const draft = s.i32(
        [b, q],
        Array.from({ length: b * q }, (_, i) => i % q),
      );
      const parents = s.i32(
        [b, q],
        Array.from({ length: b * q }, (_, i) => (i % q) - 1),
      );
      const sampled = s.i32(
        [b, q],
        Array.from({ length: b * q }, (_, i) => (i % q < q / 2 ? (i % q) + 1 : 0)),
      );
      const numNodes = s.i32([b], Array(b).fill(q));
      const [path, numAccepted, bonus] = [s.i32([b, q], Array(b * q).fill(0)), s.range(b), s.range(b)];
      const calls = [() => treeAccept({ draft, parents, numNodes, sampled, path, numAccepted, bonus })];
      return { what: `[${b},${q}]`, calls, warm: 16 * b * q };
    }),
    of('kv_compact', (s) => {
      const perSequence = 4;
      const pages = s.pages(m, b * perSequence * PAGE);
      const blockTable = s.i32(
        [b, perSequence],
        Array.from({ length: b * perSequence }, (_, i) => i),
      );
      const base = s.i32([b], Array(b).fill(40));
      const path = s.i32(
        [b, q],
        Array.from({ length: b * q }, (_, i) => (i % q ? (i % q) + 1 : 0)),
      );
      const num = s.i32([b], Array(b).fill(8));
      const calls = [() => kvCompact({ blockTable, base, path, num, pages })];
      return { what: `f16 [${b}·8,${j},${d}]`, calls, warm: b * 7 * 2 * j * d * 2 * 2 };
    }),
    of('kv_copy_pages', (s) => {
      const pages = s.pages(m, 64 * PAGE);
      const [src, dst] = [
        s.range(16),
        s.i32(
          [16],
          Array.from({ length: 16 }, (_, i) => 32 + i),
        ),
      ];
      const calls = [() => kvCopyPages({ src, dst, pages })];
      return { what: `f16 16 pages`, calls, warm: 16 * 2 * j * PAGE * d * 2 * 2 };
    }),
  ];
}

/** What runs once, at load. */
function loading(m, quick) {
  return (quick ? ['q4_1', 'i8'] : FORMATS)
    .map((format) =>
      of(isMade(format) ? 'quantize_weight' : 'pack_weight', (s) => {
        const [n, k] = [m.ffn, m.hidden];
        const source = sourceFormat(format);
        const bytes = randomMatrixBytes(source, [n, k]);
        const src = s.keep(
          Tensor.from(
            s.stream,
            'u8',
            [bytes.byteLength],
            new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength),
          ),
        );
        // Both allocate their result, and a graph needs fixed ones: what is measured includes the allocation.
        const calls = [() => s.keep(makeWeight(src, format, [n, k]))];
        return {
          what: `${format} [${n},${k}]`,
          calls,
          warm: weightBytes(source, n, k) + weightBytes(format, n, k),
          once: true,
        };
      }),
    )
    .concat(
      of('cast', (s) => {
        const n = m.hidden * m.ffn;
        const [src, out] = [s.f32(n), s.of('bf16', n)];
        const calls = [() => cast(src, 'bf16', out)];
        return { what: `f32→bf16 [${n}]`, calls, warm: 6 * n };
      }),
    );
}

/** All cases: what they are of, and a function of the stream that makes one. */
export function cases(quick) {
  return MODELS.slice(0, quick ? 1 : undefined).flatMap((m) =>
    [
      ...matrices(m, quick),
      ...fused(m, quick),
      ...attention(m, quick),
      ...lora(m, quick),
      ...rowwise(m, quick),
      ...vocabulary(m, quick),
      ...cacheMoves(m),
      ...loading(m, quick),
    ].map(({ op, make }) => ({
      op,
      model: m.name,
      /** @returns {Case} */
      make(stream) {
        const scope = new Scope(stream);
        try {
          return { ...make(scope), dispose: scope.dispose };
        } catch (error) {
          scope.dispose();
          throw error;
        }
      },
    })),
  );
}
