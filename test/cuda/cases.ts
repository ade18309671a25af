import { type NativeOps, SAMPLING_COLUMNS } from '../../lib/native/ops.gen.ts';
import {
  ACTIVATIONS,
  act,
  add,
  cast,
  clamp,
  type DType,
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
  type Pages,
  packWeight,
  pagedAttention,
  quantizeWeight,
  rope,
  type Stream,
  sample,
  sizeOf,
  Tensor,
  type TensorData,
  takeRows,
  treeAccept,
  treePrepare,
  type Weight,
  type WeightFormat,
} from '../../lib/ops/index.ts';
import { bf16Bits, f16Bits } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';
import { DEVICE_FILE_FORMATS, DEVICE_FORMATS, randomMatrix, upload } from '../ops/matrix.ts';

/** Seeded tensors on one stream, disposed together. */
export class Scope {
  readonly stream: Stream;
  readonly random: Random = new Random(11);
  #owned: (Tensor | Weight)[] = [];

  constructor(stream: Stream) {
    this.stream = stream;
  }

  keep<T extends Tensor | Weight>(t: T): T {
    this.#owned.push(t);
    return t;
  }

  from(dtype: DType, shape: readonly number[], data: TensorData): Tensor {
    return this.keep(Tensor.from(this.stream, dtype, shape, data));
  }

  /** Standard normal values. */
  normal(shape: readonly number[], dtype: DType = 'f32'): Tensor {
    const values = this.random.normal(sizeOf(shape));
    if (dtype === 'f32') return this.from(dtype, shape, values);
    return this.from(dtype, shape, Uint16Array.from(values, dtype === 'bf16' ? bf16Bits : f16Bits));
  }

  /** NaN everywhere: what an op leaves out shows. */
  blank(shape: readonly number[], dtype: DType = 'f32'): Tensor {
    const n = sizeOf(shape);
    if (dtype === 'f32') return this.from(dtype, shape, new Float32Array(n).fill(Number.NaN));
    if (dtype === 'i32') return this.from(dtype, shape, new Int32Array(n).fill(-0x5a5a5a5a));
    return this.from(dtype, shape, new Uint16Array(n).fill(0x7fff));
  }

  integers(shape: readonly number[], values: ArrayLike<number>): Tensor {
    return this.from('i32', shape, Int32Array.from(values));
  }

  below(n: number, shape: readonly number[]): Tensor {
    return this.integers(shape, this.random.integers(sizeOf(shape), 0, n));
  }

  weight(format: WeightFormat, n: number, k: number): Weight {
    return this.keep(upload(this.stream, randomMatrix(this.random, format, n, k)));
  }

  pages(n: number, heads: number, slots: number, d: number, e: number = d, dtype: DType = 'f16'): Pages {
    if (dtype !== 'i8' && dtype !== 'f8_e4m3')
      return { k: this.normal([n, heads, slots, d], dtype), v: this.normal([n, heads, slots, e], dtype) };
    const bytes = (width: number) => {
      const codes = this.random.integers(n * heads * slots * width, 0, 256);
      return dtype === 'i8'
        ? this.from(
            dtype,
            [n, heads, slots, width],
            Int8Array.from(codes, (c) => c - 128),
          )
        : this.from(
            dtype,
            [n, heads, slots, width],
            Uint8Array.from(codes, (c) => ((c & 127) > 80 ? 40 : c)),
          );
    };
    const [k, v] = [bytes(d), bytes(e)];
    if (dtype === 'f8_e4m3') return { k, v, kScale: this.scales([heads]), vScale: this.scales([heads]) };
    const plane = [n, heads, slots];
    return { k, v, kScales: this.scales(plane, 'f16'), vScales: this.scales(plane, 'f16') };
  }

  /** Scales that make numbers of a few units of what 8-bit pages hold. */
  scales(shape: readonly number[], dtype: 'f32' | 'f16' = 'f32'): Tensor {
    const values = Float32Array.from({ length: sizeOf(shape) }, () => 0.01 + 0.02 * this.random.uniform());
    return this.from(dtype, shape, dtype === 'f32' ? values : Uint16Array.from(values, f16Bits));
  }

  dispose(): void {
    for (const t of this.#owned) t.dispose();
  }
}

/** One call (or a few) of an op; what it returns is everything that the op wrote. */
export interface Case {
  what: string;
  call: (s: Scope) => (Tensor | Weight)[];
}

const cases = <T>(list: readonly T[], make: (item: T) => Case): Case[] => list.map(make);
const FLOATS: readonly DType[] = ['f32', 'bf16'];
const EPS = 1e-5;
const written = (p: Pages): Tensor[] => [p.k, p.v, ...(p.kScales ? [p.kScales, p.vScales!] : [])];
const CACHES: readonly DType[] = ['f32', 'f16', 'bf16', 'f8_e4m3', 'i8'];
/** Rows, inputs, rank, outputs, slots, type of the adapters. */
const ADAPTERS = [
  [1, 64, 8, 96, 1, 'f32'],
  [5, 300, 5, 257, 3, 'bf16'],
  [9, 33, 16, 40, 2, 'f16'],
  [3, 1030, 64, 520, 2, 'bf16'],
] as const;
/** A slot for each row, some with none (-1). */
const slotsOf = (s: Scope, t: number, slots: number): Tensor =>
  s.integers([t], s.random.integers(t, -1, slots));
const iota = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

interface Attention {
  /** [length, new tokens] of each request */
  requests: readonly (readonly [number, number])[];
  heads: readonly [number, number];
  d: number;
  e?: number;
  page?: number;
  cache?: DType;
  q?: DType;
  more?: (s: Scope, rows: number, heads: number) => Partial<Parameters<typeof pagedAttention>[0]>;
}

const attention = (what: string, a: Attention): Case => ({
  what,
  call(s) {
    const page = a.page ?? 32;
    const [h, j] = a.heads;
    const e = a.e ?? a.d;
    const rows = a.requests.reduce((n, [, fresh]) => n + fresh, 0);
    const perRequest = Math.max(1, ...a.requests.map(([length]) => Math.ceil(length / page)));
    const total = perRequest * a.requests.length + 1;
    const starts = [0];
    for (const [, fresh] of a.requests) starts.push(starts.at(-1)! + fresh);
    const out = s.blank([rows, h, e], a.q ?? 'f32');
    pagedAttention({
      q: s.normal([rows, h, a.d], a.q ?? 'f32'),
      pages: s.pages(total, j, page, a.d, e, a.cache ?? 'f16'),
      blockTable: s.integers(
        [a.requests.length, perRequest],
        s.random.permutation(total).slice(0, perRequest * a.requests.length),
      ),
      seqLens: s.integers(
        [a.requests.length],
        a.requests.map(([length]) => length),
      ),
      qStart: s.integers([starts.length], starts),
      scale: a.d ** -0.5,
      ...a.more?.(s, rows, h),
      out,
    });
    return [out];
  },
});

const sampled = (
  what: string,
  rows: number,
  vocabulary: number,
  settings: Record<string, number>,
  more?: (s: Scope) => object,
): Case => ({
  what: `${what} [${rows},${vocabulary}]`,
  call(s) {
    const ids = s.blank([rows], 'i32');
    const logprobs = s.blank([rows]);
    const topIds = s.blank([rows, 5], 'i32');
    const topLogprobs = s.blank([rows, 5]);
    const columns = SAMPLING_COLUMNS.map((c) => settings[c.name] ?? c.default);
    sample({
      logits: s.normal([rows, vocabulary]),
      columns: s.from('f32', [rows, columns.length], Float32Array.from(iota(rows).flatMap(() => columns))),
      keys: s.below(1000, [rows, 4]),
      ids,
      logprobs,
      topIds,
      topLogprobs,
      ...more?.(s),
    });
    return [ids, logprobs, topIds, topLogprobs];
  },
});

const trees = (b: number, q: number): Case => ({
  what: `[${b},${q}]`,
  call(s) {
    const parents = iota(b * q).map((i) =>
      i % q === 0 ? -1 : s.random.integer(Math.max(0, (i % q) - 3), i % q),
    );
    const { path, numAccepted, bonus } = treeAccept({
      draft: s.below(3, [b, q]),
      parents: s.integers([b, q], parents),
      numNodes: s.integers([b], s.random.integers(b, 1, q + 1)),
      sampled: s.below(3, [b, q]),
    });
    return [s.keep(numAccepted), s.keep(bonus), s.keep(path)];
  },
});

const preparedTrees = (b: number, q: number): Case => ({
  what: `[${b},${q}]`,
  call(s) {
    const parents = iota(b * q).map((i) =>
      i % q === 0 ? -1 : s.random.integer(Math.max(0, (i % q) - 3), i % q),
    );
    const { anc, rows, slots, seqLens } = treePrepare({
      parents: s.integers([b, q], parents),
      numNodes: s.integers([b], s.random.integers(b, 1, q + 1)),
      base: s.integers([b], s.random.integers(b, 0, 50)),
      blockTable: s.integers([b, 6], s.random.permutation(b * 6)),
      pageSize: 32,
    });
    return [s.keep(anc), s.keep(rows), s.keep(slots), s.keep(seqLens)];
  },
});

/** Every op of the table, in shapes that take each way through its kernels: whole tiles, tails, one row, many. */
export const CASES: Record<keyof NativeOps, Case[]> = {
  pack_weight: cases(DEVICE_FILE_FORMATS, (format) => ({
    what: `${format} [40,96]`,
    call(s) {
      const { bytes } = randomMatrix(s.random, format, 40, 96);
      const src = s.from('u8', [bytes.length], bytes);
      return [s.keep(packWeight(src, format, [40, 96])), s.keep(packWeight(src, format, [40, 96], 8))];
    },
  })),
  quantize_weight: cases(['i8', 'f8_e4m3', 'i4_g128', 'q4_0'] as const, (format) => ({
    what: `${format} [40,172]`,
    call(s) {
      return [
        s.keep(quantizeWeight(s.normal([40, 172]), format)),
        s.keep(quantizeWeight(s.normal([40, 172], 'bf16'), format, 8)),
      ];
    },
  })),
  cast: cases([1, 33, 2049], (n) => ({
    what: `[${n}]`,
    call: (s) => {
      const half = s.keep(cast(s.normal([n]), 'bf16'));
      return [half, s.keep(cast(half, 'f32')), s.keep(cast(half, 'f16'))];
    },
  })),
  embed: cases(DEVICE_FORMATS, (format) => ({
    what: `${format} [50,96]`,
    call: (s) => [
      s.keep(
        embed({
          table: s.weight(format, 50, 96),
          ids: s.below(50, [7]),
          pos: s.normal([9, 96]),
          positions: s.below(9, [7]),
          scale: 0.7,
        }),
      ),
    ],
  })),
  take_rows: cases([1, 30, 257], (d) => ({
    what: `[9,${d}]`,
    call: (s) => [s.keep(takeRows({ x: s.normal([9, d]), rows: s.below(9, [14]) }))],
  })),
  lora_shrink: cases(ADAPTERS, ([t, k, r, _, slots, dtype]) => ({
    what: `${dtype} [${slots},${r},${k}], ${t} rows`,
    call: (s) => [
      s.keep(
        loraShrink({ x: s.normal([t, k]), a: s.normal([slots, r, k], dtype), adapter: slotsOf(s, t, slots) }),
      ),
    ],
  })),
  lora_expand: cases(ADAPTERS, ([t, _, r, n, slots, dtype]) => ({
    what: `${dtype} [${slots},${r},${n}], ${t} rows`,
    call: (s) => {
      const out = s.normal([t, n]);
      loraExpand({
        v: s.normal([t, r]),
        b: s.normal([slots, r, n], dtype),
        scale: s.normal([slots]),
        adapter: slotsOf(s, t, slots),
        out,
      });
      return [out];
    },
  })),
  norm: cases(
    [
      [1, 1, 576, 0],
      [5, 1, 100, 0],
      [3, 4, 64, 0],
      [2, 3, 33, 1],
      [2, 1, 1300, 1],
    ] as const,
    ([t, g, d, kind]) => ({
      what: `[${t},${g},${d}] kind ${kind}`,
      call: (s) =>
        FLOATS.map((dtype) => {
          const x = s.normal([t, g, d], dtype);
          const bias = kind ? s.normal([1, d]) : null;
          return norm({ x, weight: s.normal([g, d]), bias, eps: EPS, kind, out: s.blank([t, g, d], dtype) });
        }),
    }),
  ),
  add: cases([1, 77, 1030], (d) => ({
    what: `[3,${d}]`,
    call: (s) =>
      FLOATS.map((dtype) =>
        add({
          x: s.normal([3, d], dtype),
          y: s.normal([3, d], dtype),
          alpha: 0.3,
          out: s.blank([3, d], dtype),
        }),
      ),
  })),
  clamp: cases([1, 77, 1030], (d) => ({
    what: `[3,${d}]`,
    call: (s) =>
      FLOATS.map((dtype) =>
        clamp({ x: s.normal([3, d], dtype), low: -1, high: 0.5, out: s.blank([3, d], dtype) }),
      ),
  })),
  linear: DEVICE_FORMATS.flatMap((format) =>
    cases(
      [
        [1, 40, 96],
        [3, 33, 160],
        [17, 72, 320],
        [70, 144, 64],
      ] as const,
      ([t, n, k]) => ({
        what: `${format} [${t},${k}]·[${n},${k}]`,
        call(s) {
          const w = s.weight(format, n, k);
          const bias = s.normal([n]);
          return [
            linear({ x: s.normal([t, k]), w, bias, residual: s.normal([t, n]), out: s.blank([t, n]) }),
            linear({ x: s.normal([t, k]), w, activations: ACTIVATIONS.f32, out: s.blank([t, n]) }),
            linear({ x: s.normal([t, k], 'bf16'), w, bias, out: s.blank([t, n], 'bf16') }),
          ];
        },
      }),
    ),
  ),
  rope: cases([false, true], (interleaved) => ({
    what: interleaved ? 'interleaved' : 'half',
    call: (s) =>
      FLOATS.map((dtype) => {
        const x = s.normal([5, 3, 40], dtype);
        rope({ x, table: s.normal([20, 32]), rows: s.below(20, [5]), offset: 4, interleaved });
        return x;
      }),
  })),
  kv_write: cases(CACHES, (cache) => ({
    what: cache,
    call(s) {
      const pages = s.pages(4, 2, 16, 24, 40, cache);
      const slots = s.integers([6], [3, -1, 63, 16, 0, 40]);
      kvWrite({ k: s.normal([6, 2, 24]), v: s.normal([6, 2, 40]), slots, pages });
      return written(pages);
    },
  })),
  paged_attention: [
    attention('one token each', {
      requests: [
        [300, 1],
        [1, 1],
        [129, 1],
      ],
      heads: [6, 2],
      d: 64,
    }),
    attention('one token, bf16', { requests: [[200, 1]], heads: [4, 4], d: 128, cache: 'bf16', q: 'bf16' }),
    attention('prompts', {
      requests: [
        [40, 40],
        [150, 20],
      ],
      heads: [4, 2],
      d: 64,
      page: 16,
    }),
    attention('prompts, bf16', { requests: [[130, 70]], heads: [2, 1], d: 64, cache: 'bf16', q: 'bf16' }),
    attention('other head sizes', {
      requests: [
        [50, 3],
        [33, 33],
      ],
      heads: [2, 1],
      d: 80,
      e: 48,
    }),
    attention('f32 cache', {
      requests: [
        [50, 1],
        [33, 10],
      ],
      heads: [2, 2],
      d: 32,
      cache: 'f32',
    }),
    attention('everything at once', {
      requests: [
        [170, 9],
        [40, 1],
      ],
      heads: [4, 2],
      d: 64,
      more: (s, rows, heads) => ({
        sinks: s.normal([heads]),
        alibi: s.normal([heads]),
        qScale: s.normal([rows]),
        window: 50,
        softcap: 20,
      }),
    }),
    attention('a tree', {
      requests: [[70, 6]],
      heads: [4, 2],
      d: 64,
      more: (s) => ({
        anc: s.integers(
          [6, 4],
          [0b1, 0b11, 0b101, 0b1011, 0b10101, 0b100001].flatMap((bits) => [bits, 0, 0, 0]),
        ),
      }),
    }),
    ...(['f8_e4m3', 'i8'] as const).flatMap((cache) => [
      attention(`${cache}, a step and a prompt`, {
        requests: [
          [140, 1],
          [50, 9],
        ],
        heads: [4, 2],
        d: 64,
        cache,
      }),
      attention(`${cache}, a tree`, {
        requests: [[70, 3]],
        heads: [4, 2],
        d: 96,
        cache,
        more: (s) => ({
          anc: s.integers(
            [3, 4],
            [0b1, 0b11, 0b101].flatMap((bits) => [bits, 0, 0, 0]),
          ),
        }),
      }),
    ]),
    attention('chunks', { requests: [[150, 30]], heads: [2, 1], d: 64, more: () => ({ chunk: 48 }) }),
  ],
  glu: cases([0, 1, 2, 3, 4, 5], (kind) => ({
    what: `kind ${kind}`,
    call: (s) =>
      FLOATS.map((dtype) => {
        const [gate, up] = [s.normal([3, 331], dtype), s.normal([3, 331], dtype)];
        return glu({ gate, up, kind, limit: 2, alpha: 1.7, out: s.blank([3, 331], dtype) });
      }),
  })),
  act: cases([0, 1, 2, 3, 4], (kind) => ({
    what: `kind ${kind}`,
    call: (s) =>
      FLOATS.map((dtype) => act({ x: s.normal([3, 331], dtype), kind, out: s.blank([3, 331], dtype) })),
  })),
  logits: cases([33, 1000], (v) => ({
    what: `[3,${v}]`,
    call(s) {
      const x = s.normal([3, v]);
      logits({ x, scale: 0.5, softcap: 3, valid: v - 5 });
      return [x];
    },
  })),
  fused_qkv: cases(
    [
      ['q4_0', 1],
      ['q8_0', 3],
      ['bf16', 18],
      ['q8_0', 2, 'f8_e4m3'],
      ['q4_0', 2, 'i8'],
    ] as const,
    ([format, t, cache]) => ({
      what: `${format} ${t} rows, ${cache ?? 'f16'} pages`,
      call(s) {
        const [c, heads, kvHeads, d] = [96, 4, 2, 32];
        const pages = s.pages(3, kvHeads, 16, d, d, cache);
        const q = fusedQkv({
          x: s.normal([t, c]),
          norm: s.normal([c]),
          eps: EPS,
          wq: s.weight(format, heads * d, c),
          wk: s.weight(format, kvHeads * d, c),
          wv: s.weight(format, kvHeads * d, c),
          bq: s.normal([heads * d]),
          qNorm: s.normal([d]),
          kNorm: s.normal([d]),
          rope: s.normal([20, d]),
          rows: s.below(20, [t]),
          slots: s.integers([t], s.random.permutation(48).slice(0, t)),
          pages,
          out: s.blank([t, heads, d]),
        });
        return [q, ...written(pages)];
      },
    }),
  ),
  fused_glu: cases(
    [
      ['q4_1', 1],
      ['q8_0', 3],
      ['bf16', 18],
    ] as const,
    ([format, t]) => ({
      what: `${format} ${t} rows`,
      call: (s) => {
        const [x, weight] = [s.normal([t, 96]), s.normal([96])];
        const [gate, up] = [s.weight(format, 72, 96), s.weight(format, 72, 96)];
        return [fusedGlu({ x, norm: weight, eps: EPS, gate, up, out: s.blank([t, 72]) })];
      },
    }),
  ),
  sample: [
    sampled('greedy', 3, 100, { temperature: 0 }),
    sampled('temperature', 2, 5000, { temperature: 0.8 }),
    sampled('top-k', 2, 3000, { temperature: 0.8, top_k: 40 }),
    sampled('top-p', 2, 3000, { temperature: 0.9, top_p: 0.9 }),
    sampled('min-p, top-k, top-p', 3, 2050, { min_p: 0.01, top_k: 100, top_p: 0.95 }),
    sampled('a flat top-p', 1, 40_000, { temperature: 3, top_p: 0.99 }),
    sampled(
      'penalties, bias, mask',
      2,
      130,
      { repetition_penalty: 1.3, frequency_penalty: 0.2, presence_penalty: 0.1, top_k: 20 },
      (s) => ({
        counts: s.from(
          'u16',
          [2, 130],
          Uint16Array.from(iota(260), (i) => (i % 7 === 0 ? 3 : i % 11 ? 0 : 0x8000)),
        ),
        countsRow: s.integers([2], [1, -1]),
        biasStart: s.integers([3], [0, 2, 5]),
        biasIds: s.below(130, [5]),
        biasValues: s.normal([5]),
        mask: s.integers([2, 5], s.random.integers(10, -(2 ** 31), 2 ** 31 - 1)),
      }),
    ),
  ],
  tree_prepare: [preparedTrees(1, 1), preparedTrees(5, 30), preparedTrees(2, 128)],
  tree_accept: [trees(1, 1), trees(9, 30), trees(3, 70)],
  kv_compact: cases(CACHES, (cache) => ({
    what: cache,
    call(s) {
      const pages = s.pages(9, 2, 16, 24, 40, cache);
      kvCompact({
        blockTable: s.integers([2, 4], s.random.permutation(9).slice(0, 8)),
        base: s.integers([2], [10, 33]),
        path: s.integers([2, 5], [0, 2, 3, 7, 9, 0, 1, 4, 5, 6]),
        num: s.integers([2], [5, 3]),
        pages,
      });
      return written(pages);
    },
  })),
  kv_copy_pages: cases(CACHES, (cache) => ({
    what: cache,
    call(s) {
      const pages = s.pages(9, 2, 16, 24, 40, cache);
      kvCopyPages({ src: s.integers([3], [0, 1, 1]), dst: s.integers([3], [5, 8, 2]), pages });
      return written(pages);
    },
  })),
};
