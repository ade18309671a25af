import { expect, it } from 'vitest';
import { native } from '../../lib/native/load.ts';
import { SAMPLING_COLUMNS, Stream, sample, Tensor } from '../../lib/ops/index.ts';
import { another, describeLevels, guarded } from '../helpers/describe-op.ts';
import { firstDifference } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';

type Columns = Partial<Record<string, number>>;

/** One row of a call, as plain numbers. */
interface Row {
  logits: Float32Array;
  columns: Columns;
  seed: readonly [number, number];
  position: number;
  counts?: Uint16Array | null;
  bias?: readonly (readonly [number, number])[];
  mask?: Int32Array;
}

const names = SAMPLING_COLUMNS.map((c) => c.name);
const column = (row: Row, name: string) =>
  Math.fround(row.columns[name] ?? SAMPLING_COLUMNS.find((c) => c.name === name)!.default);

/** Philox4x32-10 as published, on bigints. */
function philox(counter: readonly number[], key: readonly number[]): number[] {
  let [a, b, c, d] = counter.map((x) => BigInt(x >>> 0)) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map((x) => BigInt(x >>> 0)) as [bigint, bigint];
  const low = 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const x = 0xd2511f53n * a;
    const y = 0xcd9e8d57n * c;
    [a, b, c, d] = [(y >> 32n) ^ b ^ k0, y & low, (x >> 32n) ^ d ^ k1, x & low];
    k0 = (k0 + 0x9e3779b9n) & low;
    k1 = (k1 + 0xbb67ae85n) & low;
  }
  return [a, b, c, d].map(Number);
}

function noise(row: Row, id: number, words: Map<number, number[]>): number {
  const at = Math.floor(id / 4);
  if (!words.has(at)) words.set(at, philox([at, row.position, 0, 0], row.seed));
  const u = (words.get(at)![id % 4]! + 0.5) / 2 ** 32;
  return -Math.log(-Math.log1p(-u));
}

interface Drawn {
  id: number;
  /** What the filters keep, best first. */
  kept: number[];
  /** How near the decision was: to another token, or at the rim of the nucleus. */
  margin: number;
}

/** The op's definition with a sort of the whole vocabulary, in float64. */
function reference(row: Row): Drawn {
  const V = row.logits.length;
  const z = Float64Array.from(row.logits, (x) => (Number.isNaN(x) ? Number.NEGATIVE_INFINITY : x));
  const [repetition, frequency, presence] = ['repetitionPenalty', 'frequencyPenalty', 'presencePenalty'].map(
    (n) => column(row, n),
  ) as [number, number, number];
  for (let i = 0; row.counts && i < V; i++) {
    const count = row.counts[i]! & 0x7fff;
    if (row.counts[i]) z[i] = z[i]! > 0 ? z[i]! / repetition : z[i]! * repetition;
    if (count) z[i]! -= frequency * count + presence;
  }
  for (const [id, value] of row.bias ?? []) z[id]! += Math.fround(value);
  for (let i = 0; row.mask && i < V; i++)
    if (!((row.mask[i >> 5]! >>> (i & 31)) & 1)) z[i] = Number.NEGATIVE_INFINITY;
  let kept = Array.from(z.keys()).filter((i) => z[i]! > Number.NEGATIVE_INFINITY);
  kept.sort((a, b) => z[b]! - z[a]! || a - b);
  if (!kept.length) return { id: -1, kept, margin: 1 };
  const temperature = column(row, 'temperature');
  if (temperature === 0) return { id: kept[0]!, kept, margin: 1 };
  for (const i of kept) z[i]! /= temperature;
  const top = z[kept[0]!]!;
  let margin = 1;
  const minP = column(row, 'minP');
  if (minP > 0) {
    for (const i of kept) margin = Math.min(margin, Math.abs(z[i]! - top - Math.log(minP)));
    kept = kept.filter((i) => z[i]! >= top + Math.log(minP));
  }
  const topK = column(row, 'topK');
  if (topK > 0) kept = kept.slice(0, topK);
  const topP = column(row, 'topP');
  if (topP < 1) {
    const total = kept.reduce((a, i) => a + Math.exp(z[i]! - top), 0);
    let sum = 0;
    let n = 0;
    while (n < kept.length && (n === 0 || sum < topP * total)) {
      sum += Math.exp(z[kept[n]!]! - top);
      n++;
      margin = Math.min(margin, Math.abs(sum / total - topP));
    }
    kept = kept.slice(0, n);
  }
  const words = new Map<number, number[]>();
  const keys = kept.map((i) => z[i]! + noise(row, i, words));
  let best = 0;
  for (let k = 1; k < keys.length; k++) if (keys[k]! > keys[best]!) best = k;
  for (let k = 0; k < keys.length; k++) if (k !== best) margin = Math.min(margin, keys[best]! - keys[k]!);
  return { id: kept[best]!, kept, margin };
}

interface Output {
  ids: Int32Array;
  logprobs: Float32Array;
  topIds: Int32Array;
  topLogprobs: Float32Array;
}

/** `tops`: whether the best K are asked for; K may be 0. */
async function run(s: Stream, rows: readonly Row[], K: number, tops: boolean = K > 0): Promise<Output> {
  const R = rows.length;
  const V = rows[0]!.logits.length;
  const gap = 7;
  const flat = new Float32Array(R * (V + gap)).fill(1e30);
  for (const [r, row] of rows.entries()) flat.set(row.logits, r * (V + gap));
  const whole = Tensor.from(s, 'f32', [R, V + gap], flat);
  const penalised = rows.filter((row) => row.counts);
  const counts = new Uint16Array(penalised.length * V);
  for (const [u, row] of penalised.entries()) counts.set(row.counts!, u * V);
  const biases = rows.flatMap((row) => row.bias ?? []);
  const starts = [0];
  for (const row of rows) starts.push(starts.at(-1)! + (row.bias?.length ?? 0));
  const W = Math.ceil(V / 32);
  const masked = rows.some((row) => row.mask);
  const mask = new Int32Array(R * W).fill(-1);
  for (const [r, row] of rows.entries()) if (row.mask) mask.set(row.mask, r * W);
  const ints = (shape: number[], x: ArrayLike<number>) => Tensor.from(s, 'i32', shape, Int32Array.from(x));
  const ids = guarded(s, 'i32', [R]);
  const logprobs = guarded(s, 'f32', [R]);
  const topIds = guarded(s, 'i32', [R, K]);
  const topLogprobs = guarded(s, 'f32', [R, K]);
  sample({
    logits: whole.view([R, V], { strides: [V + gap, 1] }),
    columns: Tensor.from(
      s,
      'f32',
      [R, names.length],
      Float32Array.from(rows.flatMap((row) => names.map((n) => column(row, n)))),
    ),
    keys: ints(
      [R, 4],
      rows.flatMap((row) => [...row.seed, row.position, 0]),
    ),
    counts: penalised.length ? Tensor.from(s, 'u16', [penalised.length, V], counts) : null,
    countsRow: penalised.length
      ? ints(
          [R],
          rows.map((row) => penalised.indexOf(row)),
        )
      : null,
    biasStart: biases.length ? ints([R + 1], starts) : null,
    biasIds: biases.length
      ? ints(
          [biases.length],
          biases.map(([id]) => id),
        )
      : null,
    biasValues: biases.length
      ? Tensor.from(
          s,
          'f32',
          [biases.length],
          Float32Array.from(biases, ([, v]) => v),
        )
      : null,
    mask: masked ? ints([R, W], mask) : null,
    ids: ids.tensor,
    logprobs: logprobs.tensor,
    topIds: tops ? topIds.tensor : null,
    topLogprobs: tops ? topLogprobs.tensor : null,
  });
  const outs = [ids, logprobs, topIds, topLogprobs];
  try {
    const [a, b, c, d] = [
      await ids.read(),
      await logprobs.read(),
      await topIds.read(),
      await topLogprobs.read(),
    ];
    return { ids: a, logprobs: b, topIds: c, topLogprobs: d } as Output;
  } finally {
    for (const out of outs) out.dispose();
    whole.dispose();
  }
}

/** Rows with every option mixed. `spread`: how far the logits reach; ties: rounded to integers. */
function mixed(random: Random, R: number, V: number, spread: number, ties: boolean): Row[] {
  return Array.from({ length: R }, (_, r) => {
    const maybe = (p: number) => random.uniform() < p;
    const logits = random.normal(V, spread);
    if (ties) for (let i = 0; i < V; i++) logits[i] = Math.round(logits[i]!);
    const columns: Columns = { temperature: maybe(0.15) ? 0 : 0.3 + 2 * random.uniform() };
    if (maybe(0.5)) columns.topK = random.integer(1, maybe(0.7) ? Math.min(V, 60) + 1 : V + 10);
    if (maybe(0.5)) columns.topP = random.uniform();
    if (maybe(0.3)) columns.minP = random.uniform() * 0.3;
    const row: Row = {
      logits,
      columns,
      seed: [random.integer(0, 2 ** 31), r],
      position: random.integer(0, 5000),
    };
    if (maybe(0.4)) {
      row.counts = Uint16Array.from({ length: V }, () =>
        maybe(0.2) ? random.integer(0, 6) + (maybe(0.5) ? 0x8000 : 0) : 0,
      );
      Object.assign(columns, {
        repetitionPenalty: 0.7 + random.uniform(),
        frequencyPenalty: random.uniform() - 0.3,
        presencePenalty: random.uniform() - 0.3,
      });
    }
    if (maybe(0.4))
      row.bias = Array.from({ length: random.integer(0, 6) }, () => [
        random.integer(0, V),
        random.gauss() * 5,
      ]);
    if (maybe(0.3)) row.mask = random.integers(Math.ceil(V / 32), -(2 ** 31), 2 ** 31);
    return row;
  });
}

/** Decisions closer than this may fall either way in f32. */
const NEAR = 3e-5;

describeLevels('sample', (stream, backend) => {
  for (const [V, R, spread, ties] of [
    [3, 9, 1, false],
    [64, 20, 3, false],
    [1000, 30, 3, true],
    [4096, 12, 8, false],
    [4100, 12, 1, false],
    [32017, 8, 2, false],
    [32017, 6, 4, true],
  ] as const) {
    it(`draws what a full sort would: V ${V}, ${R} rows, spread ${spread}${ties ? ', ties' : ''}`, async () => {
      const rows = mixed(new Random(V + spread), R, V, spread, ties);
      const K = Math.min(V, 20);
      const got = await run(stream(), rows, K);
      let near = 0;
      for (const [r, row] of rows.entries()) {
        const want = reference(row);
        if (want.margin < NEAR) near++;
        else
          expect(got.ids[r], `row ${r}, ${JSON.stringify(row.columns)}, keeps ${want.kept.length}`).toBe(
            want.id,
          );
        const top = row.logits.reduce((a, x) => Math.max(a, x));
        const lse = top + Math.log(row.logits.reduce((a, x) => a + Math.exp(x - top), 0));
        if (got.ids[r]! >= 0) expect(got.logprobs[r]).toBeCloseTo(row.logits[got.ids[r]!]! - lse, 4);
        const order = Array.from(row.logits.keys()).sort((a, b) => row.logits[b]! - row.logits[a]! || a - b);
        expect(Array.from(got.topIds.subarray(r * K, (r + 1) * K))).toEqual(order.slice(0, K));
        for (let k = 0; k < K; k++) {
          expect(got.topLogprobs[r * K + k]).toBeCloseTo(row.logits[order[k]!]! - lse, 4);
        }
      }
      expect(near).toBeLessThan(R / 3);
    });
  }

  const draws = backend.device === 'emulated' ? 500 : 20000; // the emulation takes milliseconds for each

  it(`follows the distribution: chi-square of ${draws} draws, none outside the nucleus`, async () => {
    const logits = Float32Array.from({ length: 24 }, (_, i) => 2 * Math.sin(i * 1.7) - i / 9);
    for (const columns of [{}, { temperature: 0.7, topP: 0.9 }, { topK: 5 }] as Columns[]) {
      const count = new Array<number>(24).fill(0);
      const N = draws;
      for (let first = 0; first < N; first += 500) {
        const rows = Array.from(
          { length: 500 },
          (_, i): Row => ({ logits, columns, seed: [7, 9], position: first + i }),
        );
        for (const id of (await run(stream(), rows, 0)).ids) count[id]!++;
      }
      const { kept } = reference({ logits, columns, seed: [0, 0], position: 0 });
      const t = columns.temperature ?? 1;
      const total = kept.reduce((a, i) => a + Math.exp(logits[i]! / t), 0);
      let chi = 0;
      for (let i = 0; i < 24; i++) {
        if (!kept.includes(i)) expect(count[i]).toBe(0);
        else
          chi +=
            (count[i]! - (N * Math.exp(logits[i]! / t)) / total) ** 2 /
            ((N * Math.exp(logits[i]! / t)) / total);
      }
      const freedom = kept.length - 1;
      expect(chi).toBeLessThan(freedom + 4 * Math.sqrt(2 * freedom) + 4);
    }
  });

  it('takes NaN and masked tokens never, -1 when nothing is left', async () => {
    const V = 70;
    const base = { columns: {}, seed: [1, 2] as const, position: 3 };
    const nan = new Float32Array(V).fill(Number.NaN);
    const rows: Row[] = [
      { ...base, logits: nan },
      { ...base, logits: new Float32Array(V).fill(Number.NEGATIVE_INFINITY) },
      { ...base, logits: new Float32Array(V), mask: new Int32Array(3) },
      { ...base, logits: nan.slice().fill(0, 11, 12), columns: { topP: 0.5 } },
      { ...base, logits: nan.slice().fill(-3, 64, 65), columns: { temperature: 0 } },
      { ...base, logits: new Float32Array(V).fill(Number.POSITIVE_INFINITY, 5, 6) },
      { ...base, logits: new Float32Array(V), mask: Int32Array.of(0, 1 << 30, 0), columns: { topK: 3 } },
      { ...base, logits: nan, columns: { topK: 3 } },
    ];
    expect(Array.from((await run(stream(), rows, 0)).ids)).toEqual([-1, -1, -1, 11, 64, 5, 62, -1]);
  });

  it('breaks ties by the lowest id', async () => {
    const logits = new Float32Array(5000);
    const at = (columns: Columns): Row => ({ logits, columns, seed: [4, 4], position: 0 });
    const got = await run(stream(), [at({ temperature: 0 }), at({ topK: 1 }), at({ topP: 0 })], 4);
    expect(Array.from(got.ids)).toEqual([0, 0, 0]);
    expect(Array.from(got.topIds.subarray(0, 4))).toEqual([0, 1, 2, 3]);
  });

  it('gives the best none when none are asked for', async () => {
    const rows = mixed(new Random(5), 3, 200, 8, false);
    const [empty, absent] = [await run(stream(), rows, 0, true), await run(stream(), rows, 0)];
    expect(empty.ids).toEqual(absent.ids);
    expect(firstDifference(empty.logprobs, absent.logprobs)).toBe(-1);
  });

  it('refuses columns, ids and sizes that make no sense', async () => {
    const row: Row = { logits: new Float32Array(40), columns: {}, seed: [0, 0], position: 0 };
    const bad = (change: Partial<Row>, message: string) =>
      expect(run(stream(), [row, { ...row, ...change }], 0)).rejects.toThrow(message);
    if (!backend.cuda) {
      // On a GPU these lie where the checks cannot read them; the engine makes them, and it knows the bounds.
      await bad({ columns: { topP: 1.5 } }, 'sample: columns[1,2] is 1.5, expected top_p from 0 to 1');
      await bad({ columns: { temperature: Number.NaN } }, 'expected temperature from 0 to 100');
      await bad({ columns: { topK: 2.5 } }, 'sample: columns[1,1] is 2.5, expected an integer top_k');
      await bad({ bias: [[4, Number.POSITIVE_INFINITY]] }, 'expected a finite number');
    }
    await bad({ bias: [[40, 1]] }, 'sample: bias_ids[0] is 40, expected a token in [0, 40)');
    await expect(run(stream(), [row], 41)).rejects.toThrow('sample: top_ids has K=41, expected at most V=40');
  });

  it('gives a row the same draw alone, in any batch and with any number of threads', async () => {
    for (const [V, R] of [
      [300, 37],
      [9000, 18],
    ] as const) {
      const rows = mixed(new Random(V), R, V, 2, false);
      using two = another(backend, 2);
      const all = await run(two, rows, 3);
      for (const threads of backend.cuda ? [1] : [1, 3, 7]) {
        using s = another(backend, threads);
        const got = await run(s, rows, 3);
        for (const part of ['ids', 'logprobs', 'topIds', 'topLogprobs'] as const) {
          expect(firstDifference(got[part], all[part]), `${part}, ${threads} threads`).toBe(-1);
        }
      }
      const order = new Random(1).permutation(R);
      const shuffled = await run(
        two,
        order.map((r) => rows[r]!),
        3,
      );
      for (const [i, r] of order.entries()) expect(shuffled.ids[i]).toBe(all.ids[r]);
      for (let r = 0; r < R; r += 5) {
        const alone = await run(two, [rows[r]!], 3);
        expect(alone.ids[0]).toBe(all.ids[r]);
        expect(alone.logprobs[0]).toBe(all.logprobs[r]);
      }
    }
  });

  it.skipIf(!backend.cuda)('draws the ids of the CPU: a few hundred rows, all options mixed', async () => {
    // Every level but the baseline has the fused multiply-adds of the kernel: the same bits. The baseline may differ when a
    // decision is near.
    const level = native().machine().levels.at(-1)!;
    using cpu = new Stream({ level, threads: 2 });
    for (const [V, R, spread, ties] of [
      [5, 40, 1, false],
      [31, 40, 2, true],
      [257, 60, 3, false],
      [2048, 30, 2, false],
      [5003, 30, 4, false],
      [5003, 20, 0.5, true],
      [20001, 24, 3, false],
    ] as const) {
      const rows = mixed(new Random(3 * V + spread), R, V, spread, ties);
      const K = Math.min(V, 5);
      const [got, want] = [await run(stream(), rows, K), await run(cpu, rows, K)];
      for (const [r, row] of rows.entries())
        if (got.ids[r] !== want.ids[r] && !(level === 'baseline' && reference(row).margin < NEAR))
          expect.fail(`V ${V}, row ${r}, ${JSON.stringify(row.columns)}: ${got.ids[r]}, CPU ${want.ids[r]}`);
      expect(firstDifference(got.topIds, want.topIds)).toBe(-1);
      for (let i = 0; i < got.topLogprobs.length; i++)
        expect(got.topLogprobs[i]).toBeCloseTo(want.topLogprobs[i]!, 5);
    }
  });

  it('finds the nucleus of a large vocabulary, peaked and flat, and the best of many tokens', async () => {
    const V = backend.device === 'emulated' ? 50000 : 128256;
    const random = new Random(8);
    const rows = Array.from({ length: 8 }, (_, r): Row => {
      const logits = random.normal(V, [0.2, 1.5, 3, 5][r % 4]);
      return {
        logits,
        columns:
          r < 4
            ? { topP: 0.9 }
            : [{ topP: 0.3 }, { topK: 1500, topP: 0.95 }, { topK: 50 }, { minP: 1e-4 }][r - 4]!,
        seed: [r, 5],
        position: r,
      };
    });
    const got = await run(stream(), rows, 300);
    for (const [r, row] of rows.entries()) {
      const want = reference(row);
      if (want.margin >= NEAR) expect(got.ids[r], `row ${r}, keeps ${want.kept.length}`).toBe(want.id);
      else expect(want.kept).toContain(got.ids[r]);
      const order = Array.from(row.logits.keys()).sort((a, b) => row.logits[b]! - row.logits[a]! || a - b);
      expect(Array.from(got.topIds.subarray(r * 300, (r + 1) * 300))).toEqual(order.slice(0, 300));
    }
  });
});
