import { expect, it } from 'vitest';
import { pagedAttention, type Stream, Tensor } from '../../lib/ops/index.ts';
import { another, type Backend, describeLevels, expectClose, guarded } from '../helpers/describe-op.ts';
import { firstDifference } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';
import { CACHE_TYPES, type CacheType, Paged } from './paged.ts';

interface Problem {
  cache: Paged;
  H: number;
  /** New rows of each request: its last tokens. */
  rows: readonly number[];
  q: Float32Array;
  scale: number;
  window?: number;
  chunk?: number;
  softcap?: number;
  sinks?: Float32Array | null;
  alibi?: Float32Array | null;
  qScale?: Float32Array | null;
  /** [T,4] */
  anc?: Int32Array | null;
}

/** First row of q of each request, and their number. */
function starts(p: Problem): number[] {
  const out = [0];
  for (const n of p.rows) out.push(out.at(-1)! + n);
  return out;
}

function popcount(words: Int32Array): number {
  let n = 0;
  for (const w of words) for (let x = w >>> 0; x; x = (x & (x - 1)) >>> 0) n++;
  return n;
}

/** The op's definition, in float64, one row and head at a time. */
function reference(p: Problem): Float64Array {
  const { cache, H } = p;
  const { D, E, J } = cache;
  const q0 = starts(p);
  const out = new Float64Array(q0.at(-1)! * H * E);
  const bitsOf = (t: number) => (p.anc ?? new Int32Array(0)).subarray(t * 4, t * 4 + 4);
  for (const [b, n] of p.rows.entries()) {
    const prefix = cache.lens[b]! - n;
    for (let i = 0; i < n; i++) {
      const t = q0[b]! + i;
      const own = bitsOf(t);
      const tree = popcount(own) > 0;
      const position = prefix + (tree ? popcount(own) - 1 : i);
      for (let h = 0; h < H; h++) {
        const j = Math.floor(h / (H / J));
        const scores: [number, number][] = [];
        for (let c = 0; c < cache.lens[b]!; c++) {
          const node = c - prefix;
          const at = tree && node >= 0 ? prefix + popcount(bitsOf(q0[b]! + node)) - 1 : c;
          const seen = tree && node >= 0 ? (own[node >> 5]! >>> (node & 31)) & 1 : at <= position;
          if (!seen || (p.window && at <= position - p.window)) continue;
          if (p.chunk && Math.floor(at / p.chunk) !== Math.floor(position / p.chunk)) continue;
          const row = cache.row(b, c, j);
          let s = 0;
          for (let d = 0; d < D; d++) s += p.q[(t * H + h) * D + d]! * cache.k[row * D + d]!;
          s *= p.scale * (p.qScale?.[t] ?? 1);
          if (p.softcap) s = p.softcap * Math.tanh(s / p.softcap);
          s += (p.alibi?.[h] ?? 0) * at;
          scores.push([s, row]);
        }
        const sink = p.sinks?.[h] ?? Number.NEGATIVE_INFINITY;
        const top = Math.max(sink, ...scores.map(([s]) => s));
        const sum = scores.reduce((a, [s]) => a + Math.exp(s - top), Math.exp(sink - top));
        for (const [s, row] of scores) {
          const w = Math.exp(s - top) / sum;
          for (let e = 0; e < E; e++) out[(t * H + h) * E + e]! += w * cache.v[row * E + e]!;
        }
      }
    }
  }
  return out;
}

async function run(s: Stream, p: Problem): Promise<Float32Array> {
  const { cache, H } = p;
  const B = p.rows.length;
  const T = starts(p).at(-1)!;
  const pages = cache.upload(s);
  using whole = Tensor.from(s, 'f32', [T, H * cache.D + 5], spread(p.q, T, H * cache.D, 5));
  using q = whole.view([T, H, cache.D], { strides: [H * cache.D + 5, cache.D, 1] });
  using blockTable = Tensor.from(s, 'i32', [B, cache.M], cache.table);
  using seqLens = Tensor.from(s, 'i32', [B], Int32Array.from(cache.lens));
  using qStart = Tensor.from(s, 'i32', [B + 1], Int32Array.from(starts(p)));
  const vector = (x: Float32Array | null | undefined) => (x ? Tensor.from(s, 'f32', [x.length], x) : null);
  const out = guarded(s, 'f32', [T, H, cache.E]);
  pagedAttention({
    q,
    pages,
    blockTable,
    seqLens,
    qStart,
    anc: p.anc ? Tensor.from(s, 'i32', [T, 4], p.anc) : null,
    sinks: vector(p.sinks),
    alibi: vector(p.alibi),
    qScale: vector(p.qScale),
    scale: p.scale,
    window: p.window ?? 0,
    chunk: p.chunk ?? 0,
    softcap: p.softcap ?? 0,
    out: out.tensor,
  });
  try {
    return (await out.read()) as Float32Array;
  } finally {
    out.dispose();
    pages.dispose();
  }
}

/** Rows of `width` with `gap` elements of NaN between them. */
function spread(x: Float32Array, rows: number, width: number, gap: number): Float32Array {
  const out = new Float32Array(rows * (width + gap)).fill(Number.NaN);
  for (let r = 0; r < rows; r++) out.set(x.subarray(r * width, (r + 1) * width), r * (width + gap));
  return out;
}

interface Shape {
  lens: readonly number[];
  rows: readonly number[];
  H: number;
  J: number;
  D: number;
  E?: number;
  S?: number;
}

function problem(o: Shape, type: CacheType = 'f32', seed: number = 1): Problem {
  const random = new Random(seed + o.D + o.H);
  const cache = new Paged(random, o.lens, { J: o.J, S: o.S ?? 32, D: o.D, E: o.E ?? o.D }, type);
  const T = o.rows.reduce((a, n) => a + n, 0);
  return { cache, H: o.H, rows: o.rows, q: random.normal(T * o.H * o.D), scale: o.D ** -0.5 };
}

/**
 * Relative error to allow: CUDA's tensor cores take queries and probabilities in the pages' type, of 11 or 8 bits, and in bf16 for pages of
 * 8 bits.
 */
function tolerance(backend: Backend, p: Problem, exact: number): number {
  const { type, D, E, S } = p.cache;
  const fast = type !== 'f32' && D === E && [64, 96, 128, 256].includes(D) && S % 16 === 0;
  return backend.cuda && fast ? (type === 'f16' ? 5e-4 : 4e-3) : exact;
}

/** Rows [from, to) of request b alone in a batch. */
function part(p: Problem, b: number, from: number, to: number): Problem {
  const { cache, H } = p;
  const t = starts(p)[b]!;
  const alone = Object.assign(Object.create(Object.getPrototypeOf(cache)), cache, {
    lens: [cache.lens[b]! - p.rows[b]! + to],
    table: cache.table.slice(b * cache.M, (b + 1) * cache.M),
  }) as Paged;
  const width = H * cache.D;
  return {
    ...p,
    cache: alone,
    rows: [to - from],
    q: p.q.slice((t + from) * width, (t + to) * width),
    qScale: p.qScale?.slice(t + from, t + to) ?? null,
    anc: p.anc?.slice((t + from) * 4, (t + to) * 4) ?? null,
  };
}

/** Ancestor bits [T,4]; `parent(i)` of row i of a request, -1 for the root. */
function ancestors(rows: readonly number[], parent: (i: number) => number): Int32Array {
  const out: Int32Array[] = [];
  for (const n of rows) {
    const words = new Int32Array(n * 4);
    for (let i = 0; i < n; i++) {
      const up = parent(i);
      if (up >= 0) words.copyWithin(i * 4, up * 4, up * 4 + 4);
      words[i * 4 + (i >> 5)]! |= 1 << (i & 31);
    }
    out.push(words);
  }
  return Int32Array.from(out.flatMap((w) => Array.from(w)));
}

const SHAPES: readonly Shape[] = [
  { lens: [1], rows: [1], H: 1, J: 1, D: 8, S: 16 },
  { lens: [130, 5, 257], rows: [1, 5, 3], H: 6, J: 2, D: 64 },
  { lens: [128, 170], rows: [1, 40], H: 9, J: 3, D: 64 },
  { lens: [19], rows: [7], H: 4, J: 1, D: 80, E: 48, S: 7 },
  { lens: [160, 129], rows: [33, 1], H: 8, J: 2, D: 24, E: 20, S: 16 },
  { lens: [140], rows: [1], H: 71, J: 1, D: 64 },
  { lens: [135], rows: [3], H: 4, J: 4, D: 256 },
  { lens: [0, 300, 4], rows: [0, 1, 0], H: 3, J: 3, D: 40, E: 17, S: 5 },
  { lens: [70, 400, 256], rows: [70, 1, 2], H: 8, J: 2, D: 128, S: 64 },
  { lens: [150, 17], rows: [1, 17], H: 4, J: 2, D: 96, S: 16 },
  { lens: [1, 15, 16, 17, 127, 128, 129], rows: [1, 2, 1, 1, 5, 1, 1], H: 8, J: 2, D: 128, S: 32 },
];

describeLevels('paged_attention', (stream, backend) => {
  for (const [i, shape] of SHAPES.entries()) {
    for (const type of CACHE_TYPES) {
      it(`shape ${i} ${type}: lengths ${shape.lens}, rows ${shape.rows}, heads ${shape.H}/${shape.J}, D ${shape.D}`, async () => {
        const p = problem(shape, type);
        expectClose(await run(stream(), p), reference(p), tolerance(backend, p, 1e-6), 'attention');
      });
    }
  }

  const random = new Random(77);
  const T = 44;
  const options: Record<string, Partial<Problem>> = {
    window: { window: 50 },
    'window of one': { window: 1 },
    'window past a chunk': { window: 131 },
    'chunks of positions': { chunk: 48 },
    softcap: { softcap: 3 },
    sinks: { sinks: random.normal(6, 2) },
    alibi: { alibi: Float32Array.from({ length: 6 }, (_, h) => 2 ** -(h + 1)) },
    'q scale': { qScale: random.normal(T).map((x) => 1 + 0.2 * x) },
    tree: { anc: ancestors([40, 1, 3], (i) => (i ? (i * 7919) % i : -1)) },
    everything: {
      window: 20,
      softcap: 4,
      sinks: random.normal(6),
      alibi: Float32Array.from({ length: 6 }, (_, h) => 2 ** -(h + 1)),
      qScale: random.normal(T).map((x) => 1 + 0.2 * x),
      anc: ancestors([40, 1, 3], (i) => (i ? i - 1 - ((i * 31) % Math.min(i, 3)) : -1)),
    },
  };
  for (const [name, option] of Object.entries(options)) {
    for (const [D, type] of [
      [32, 'f32'],
      [64, 'bf16'],
      [256, 'f16'],
      [64, 'i8'],
      [96, 'f8_e4m3'],
      [40, 'i8'],
    ] as const) {
      if (D === 256 && !name.startsWith('tree') && name !== 'everything') continue;
      it(`${name}, D ${D} ${type}`, async () => {
        const p = { ...problem({ lens: [290, 150, 3], rows: [40, 1, 3], H: 6, J: 2, D }, type), ...option };
        expectClose(await run(stream(), p), reference(p), tolerance(backend, p, 2e-6), name);
      });
    }
  }

  for (const [D, type] of [
    [128, 'f8_e4m3'],
    [64, 'i8'],
    [64, 'bf16'],
  ] as const)
    it(`shows a NaN to the rows that see it (D ${D} ${type})`, async () => {
      const p = problem({ lens: [170, 40], rows: [3, 1], H: 2, J: 1, D }, type);
      p.cache.k[p.cache.row(0, 168, 0) * D + 5] = Number.NaN;
      const got = await run(stream(), p);
      const bad = Array.from({ length: 4 }, (_, t) =>
        got.subarray(t * 2 * D, (t + 1) * 2 * D).every(Number.isNaN),
      );
      expect(bad).toEqual([false, true, true, false]);
      expect(got.subarray(0, 2 * D).every(Number.isFinite)).toBe(true);

      const q = problem({ lens: [170, 40], rows: [1, 1], H: 2, J: 1, D }, type);
      q.cache.v[q.cache.row(0, 100, 0) * D + 5] = Number.NaN;
      const values = await run(stream(), q);
      expect(values[5], 'the column of the value').toBeNaN();
      expect(values.subarray(2 * D).every(Number.isFinite)).toBe(true);
    });

  for (const [D, type] of [
    [16, 'f32'],
    [64, 'f16'],
    [128, 'i8'],
    [64, 'f8_e4m3'],
    [24, 'i8'],
  ] as const) {
    it(`never touches what is masked: NaN in siblings, in the future and in dead pages stays there (D ${D})`, async () => {
      const S = D % 64 ? 8 : 16;
      const p = problem({ lens: [150], rows: [4], H: 2, J: 1, D, S }, type);
      p.anc = ancestors([4], (i) => (i ? 0 : -1));
      const want = await run(stream(), p);
      for (const token of [147, 148]) {
        // rows 1 and 2
        p.cache.k.fill(Number.NaN, p.cache.row(0, token, 0) * D, (p.cache.row(0, token, 0) + 1) * D);
        p.cache.v.fill(Number.NaN, p.cache.row(0, token, 0) * D, (p.cache.row(0, token, 0) + 1) * D);
      }
      const got = await run(stream(), p);
      for (const t of [0, 3]) {
        const row = [t * 2 * D, (t + 1) * 2 * D] as const;
        expect(firstDifference(got.subarray(...row), want.subarray(...row))).toBe(-1);
      }
      expect(got.subarray(2 * D, 6 * D).every(Number.isNaN)).toBe(true);
      const w = { ...problem({ lens: [300], rows: [1], H: 2, J: 1, D, S }, type), window: 10 };
      const clean = await run(stream(), w);
      w.cache.table.fill(-5, 0, 288 / S); // pages that the window has left may be gone
      expect(firstDifference(await run(stream(), w), clean)).toBe(-1);
    });

    it(`refuses a wrong page, length, row count and tree, by name (D ${D})`, async () => {
      const shape = { lens: [40, 9], rows: [2, 3], H: 2, J: 1, D, S: 16 };
      const bad = async (change: (p: Problem) => Problem, message: string) =>
        expect(run(stream(), change(problem(shape, type)))).rejects.toThrow(message);
      const withCache = (p: Problem, x: object) => ({
        ...p,
        cache: Object.assign(Object.create(Paged.prototype), p.cache, x),
      });
      const page = (p: Problem) => {
        p.cache.table[1] = 99;
        return p;
      };
      await bad(page, 'paged_attention: block_table[0,1] is 99, expected a page in [0, ');
      await bad(
        (p) => withCache(p, { lens: [40, 2] }),
        'paged_attention: seq_lens[1] is 2, expected a length in [3, 49)',
      );
      await bad((p) => withCache(p, { lens: [49, 9] }), 'paged_attention: seq_lens[0] is 49');
      const forward = ancestors([2, 3], (i) => i - 1);
      forward[8]! |= 4;
      await bad(
        (p) => ({ ...p, anc: forward }),
        `paged_attention: anc[2] is 2, expected ${backend.cuda ? '' : 'ancestors at or before row 0'}`,
      );
    });
  }
});

describeLevels('paged_attention gives a row the same bits', (stream, backend) => {
  const variants: Record<string, Partial<Problem>> = {
    plain: {},
    window: { window: 70 },
    'softcap, sinks, alibi': {
      softcap: 5,
      sinks: new Random(1).normal(6),
      alibi: new Random(2).normal(6, 0.1),
    },
  };
  for (const [D, E] of [
    [48, 40],
    [64, 64],
  ] as const) {
    const shape = { lens: [300, 131, 40], rows: [60, 1, 7], H: 6, J: 2, D, E, S: 16 };
    for (const [name, option] of Object.entries(variants)) {
      for (const type of CACHE_TYPES) {
        it(`${name}, D ${D} ${type}: threads, batches, pieces, a chain as a tree`, async () => {
          const two = stream();
          const p = { ...problem(shape, type), ...option };
          const all = await run(two, p);
          for (const threads of backend.cuda ? [] : [1, 3, 8]) {
            using s = another(backend, threads);
            expect(firstDifference(await run(s, p), all), `${threads} threads`).toBe(-1);
          }
          const width = p.H * p.cache.E;
          const q0 = starts(p);
          for (const [b, n] of p.rows.entries()) {
            const want = (from: number, to: number) =>
              all.subarray((q0[b]! + from) * width, (q0[b]! + to) * width);
            for (const step of [1, 13, n]) {
              for (let i = 0; i < n; i += step) {
                const to = Math.min(n, i + step);
                const got = await run(two, part(p, b, i, to));
                expect(firstDifference(got, want(i, to)), `request ${b}, rows ${i} to ${to}`).toBe(-1);
              }
            }
            const chain = { ...part(p, b, 0, n), anc: ancestors([n], (i) => i - 1) };
            expect(firstDifference(await run(two, chain), want(0, n)), `request ${b} as a chain`).toBe(-1);
          }
        });
      }
    }
  }

  for (const [D, type, G] of [
    [32, 'f32', 2],
    [64, 'bf16', 2],
    [64, 'f16', 3],
    [256, 'bf16', 1],
    [64, 'f8_e4m3', 2],
    [128, 'i8', 3],
    [256, 'i8', 1],
    [96, 'i8', 17],
  ] as const) {
    it(`in a tree and as plain text, across a chunk boundary: D ${D} ${type}, groups of ${G}`, async () => {
      const s = stream();
      const H = 2 * G;
      const p = problem({ lens: [200], rows: [9], H, J: 2, D }, type);
      for (const length of [200, 131, 138]) {
        const at = part({ ...p, cache: Object.assign(Object.create(Paged.prototype), p.cache) }, 0, 0, 9);
        at.cache = Object.assign(Object.create(Paged.prototype), at.cache, {
          lens: [length],
          k: p.cache.k.slice(),
          v: p.cache.v.slice(),
        });
        const parents = [-1, 0, 0, 1, 2, 3, 1, 6, 4];
        at.anc = ancestors([9], (i) => parents[i]!);
        const all = await run(s, at);
        // The path 0, 1, 6, 7 as plain tokens: their rows moved together, as kv_compact does.
        const path = [0, 1, 6, 7];
        const alone = part(at, 0, 0, 4);
        const { cache } = at;
        for (const [d, node] of path.entries()) {
          alone.q.set(at.q.subarray(node * H * D, (node + 1) * H * D), d * H * D);
          for (let j = 0; j < 2; j++) {
            const [from, to] = [cache.row(0, length - 9 + node, j), cache.row(0, length - 9 + d, j)];
            cache.k.copyWithin(to * D, from * D, from * D + D);
            cache.v.copyWithin(to * D, from * D, from * D + D);
          }
        }
        const got = await run(s, { ...alone, anc: null });
        for (const [d, node] of path.entries()) {
          const want = all.subarray(node * H * D, (node + 1) * H * D);
          const row = got.subarray(d * H * D, (d + 1) * H * D);
          expect(firstDifference(row, want), `length ${length}, node ${node}`).toBe(-1);
        }
      }
    });
  }

  it.each(['bf16', 'f8_e4m3', 'i8'] as const)('whatever the size of a page of %s', async (type) => {
    const shape = { lens: [200, 70], rows: [20, 1], H: 4, J: 2, D: 64 };
    const small = problem({ ...shape, S: 16 }, type);
    const want = await run(stream(), small);
    for (const S of [32, 64, 48]) {
      const p = { ...problem({ ...shape, S }, type), q: small.q };
      for (const [b, n] of shape.lens.entries())
        for (let token = 0; token < n; token++)
          for (let j = 0; j < 2; j++) {
            const [from, to] = [small.cache.row(b, token, j) * 64, p.cache.row(b, token, j) * 64];
            p.cache.k.set(small.cache.k.subarray(from, from + 64), to);
            p.cache.v.set(small.cache.v.subarray(from, from + 64), to);
          }
      expect(firstDifference(await run(stream(), p), want), `pages of ${S}`).toBe(-1);
    }
  });

  // On CUDA few rows a request take another kernel, which shares a context between blocks: by what there is of each.
  for (const [D, type, J, G, lens] of [
    [64, 'bf16', 2, 4, [700, 300, 129, 40]],
    [64, 'f16', 1, 3, [600]],
    [96, 'bf16', 1, 2, [390, 128]],
    [128, 'f16', 1, 12, [520]],
    [128, 'bf16', 2, 4, [260, 391, 7]],
    [256, 'bf16', 1, 5, [300, 130]],
    [64, 'i8', 1, 3, [600]],
    [96, 'i8', 1, 2, [390, 128]],
    [128, 'f8_e4m3', 2, 4, [260, 391, 7]],
    [128, 'i8', 1, 12, [520]],
    [256, 'f8_e4m3', 1, 5, [300, 130]],
  ] as const) {
    it(`in a step of decoding as in a prompt: D ${D} ${type}, heads ${J * G}/${J}, lengths ${lens}`, async () => {
      const s = stream();
      const rows = lens.map((n) => Math.min(n, 50));
      const base = problem({ lens, rows, H: J * G, J, D, S: 16 }, type);
      const T = starts(base).at(-1)!;
      const random = new Random(5);
      const options: Partial<Problem>[] = [
        {},
        {
          window: 150,
          softcap: 5,
          sinks: random.normal(J * G),
          alibi: random.normal(J * G, 0.1),
          qScale: random.normal(T).map((x) => 1 + 0.2 * x),
        },
        { chunk: 200 },
      ];
      for (const [i, option] of options.entries()) {
        const p = { ...base, ...option };
        const all = await run(s, p);
        const q0 = starts(p);
        const width = J * G * D;
        for (const most of [1, 3]) {
          const few = rows.map((n, b) => Math.min(n, b % 2 ? 1 : most));
          const from = few.map((n, b) => q0[b + 1]! - n);
          const pick = (x: Float32Array, w: number) =>
            Float32Array.from(from.flatMap((t, b) => Array.from(x.subarray(t * w, (t + few[b]!) * w))));
          const got = await run(s, {
            ...p,
            rows: few,
            q: pick(p.q, width),
            qScale: p.qScale ? pick(p.qScale, 1) : null,
          });
          expect(firstDifference(got, pick(all, width)), `options ${i}, rows ${few}`).toBe(-1);
        }
      }
    });
  }
});
