import { SAMPLING_COLUMNS } from '../native/ops.gen.ts';
import { sample } from '../ops/sample.ts';
import type { Stream } from '../tensor/stream.ts';
import { Tensor } from '../tensor/tensor.ts';
import type { ResolvedSampling } from './params.ts';

/** One row to draw: parameters, the position of the token to be drawn, and the row of its penalty counts (-1: none). */
export interface SampleRow {
  params: ResolvedSampling;
  position: number;
  countsRow: number;
}

export interface Drawn {
  id: number;
  logprob: number;
  /** Most likely ids and their log-probabilities, as many as the row asked for. */
  top: readonly { id: number; logprob: number }[];
}

/** The `top` of those that did not ask for it. */
export const NO_TOP: Drawn['top'] = Object.freeze([]);

const C: number = SAMPLING_COLUMNS.length;

/** Device memory of draws of R rows with K reported tokens; inputs and outputs are one buffer each. */
class Buffers {
  readonly staging: Int32Array;
  readonly floats: Float32Array;
  readonly input: Tensor;
  readonly columns: Tensor;
  readonly keys: Tensor;
  readonly output: Tensor;
  readonly ids: Tensor;
  readonly logprobs: Tensor;
  readonly topIds: Tensor | null;
  readonly topLogprobs: Tensor | null;

  constructor(stream: Stream, rows: number, top: number) {
    this.staging = new Int32Array(rows * (C + 4));
    this.floats = new Float32Array(this.staging.buffer);
    this.input = Tensor.empty(stream, 'i32', [rows * (C + 4)]);
    this.columns = this.input.view([rows, C], { dtype: 'f32' });
    this.keys = this.input.view([rows, 4], { offset: rows * C });
    this.output = Tensor.empty(stream, 'i32', [rows * (2 + 2 * top)]);
    this.ids = this.output.view([rows]);
    this.logprobs = this.output.view([rows], { dtype: 'f32', offset: rows });
    this.topIds = top ? this.output.view([rows, top], { offset: 2 * rows }) : null;
    this.topLogprobs = top ? this.output.view([rows, top], { dtype: 'f32', offset: rows * (2 + top) }) : null;
  }

  dispose(): void {
    for (const t of [
      this.input,
      this.columns,
      this.keys,
      this.output,
      this.ids,
      this.logprobs,
      this.topIds,
      this.topLogprobs,
    ])
      t?.dispose();
  }
}

/** Turns logits into tokens: fills the columns of `sample`, calls it, reads the result. */
export class Sampler {
  readonly #stream: Stream;
  readonly #vocabSize: number;
  readonly #buffers = new Map<string, Buffers>();

  constructor(stream: Stream, vocabSize: number) {
    this.#stream = stream;
    this.#vocabSize = vocabSize;
  }

  #get(rows: number, top: number): Buffers {
    const key = `${rows}/${top}`;
    let b = this.#buffers.get(key);
    if (!b) {
      if (this.#buffers.size >= 64) this.dispose();
      b = new Buffers(this.#stream, rows, top);
      this.#buffers.set(key, b);
    }
    return b;
  }

  /**
   * Enqueues the draw of one token per row of `logits` [R,V]. `ids` i32[R] are the tokens on the device, valid until the next draw
   * and owned by the sampler; `drawn` resolves with the whole result.
   */
  draw(
    logits: Tensor,
    rows: readonly SampleRow[],
    counts: Tensor | null,
  ): { ids: Tensor; drawn: Promise<Drawn[]> } {
    const top = rows.reduce((k, r) => Math.max(k, r.params.logprobs ?? 0), 0);
    const b = this.#get(rows.length, top);
    const keys = rows.length * C;
    for (let r = 0; r < rows.length; r++) {
      const row = rows[r]!;
      b.floats.set(row.params.columns, r * C);
      b.staging[keys + 4 * r] = row.params.seedLow;
      b.staging[keys + 4 * r + 1] = row.params.seedHigh;
      b.staging[keys + 4 * r + 2] = row.position;
    }
    b.input.write(b.staging);
    const extra = this.#extras(rows, counts);
    sample({
      logits,
      columns: b.columns,
      keys: b.keys,
      ...extra.args,
      ids: b.ids,
      logprobs: b.logprobs,
      topIds: b.topIds,
      topLogprobs: b.topLogprobs,
    });
    const pending = b.output.read();
    for (const t of extra.temporary) t.dispose();
    return { ids: b.ids, drawn: pending.then((data) => unpack(data, rows, top)) };
  }

  /** Arguments that only some rows need: penalties, biases, masks. */
  #extras(
    rows: readonly SampleRow[],
    counts: Tensor | null,
  ): { args: Record<string, Tensor>; temporary: Tensor[] } {
    const args: Record<string, Tensor> = {};
    const temporary: Tensor[] = [];
    const put = (name: string, t: Tensor): void => {
      args[name] = t;
      temporary.push(t);
    };
    if (counts && rows.some((r) => r.countsRow >= 0)) {
      args.counts = counts;
      put(
        'countsRow',
        Tensor.from(
          this.#stream,
          'i32',
          [rows.length],
          Int32Array.from(rows, (r) => r.countsRow),
        ),
      );
    }
    if (rows.some((r) => r.params.biasIds.length > 0)) {
      const start = new Int32Array(rows.length + 1);
      for (const [r, row] of rows.entries()) start[r + 1] = start[r]! + row.params.biasIds.length;
      put('biasStart', Tensor.from(this.#stream, 'i32', [start.length], start));
      put(
        'biasIds',
        Tensor.from(
          this.#stream,
          'i32',
          [start[rows.length]!],
          Int32Array.from(rows.flatMap((r) => r.params.biasIds)),
        ),
      );
      put(
        'biasValues',
        Tensor.from(
          this.#stream,
          'f32',
          [start[rows.length]!],
          Float32Array.from(rows.flatMap((r) => r.params.biasValues)),
        ),
      );
    }
    if (rows.some((r) => r.params.allowedIds)) {
      const words = Math.ceil(this.#vocabSize / 32);
      const mask = new Int32Array(rows.length * words).fill(-1);
      for (const [r, row] of rows.entries()) {
        if (!row.params.allowedIds) continue;
        mask.fill(0, r * words, (r + 1) * words);
        for (const id of row.params.allowedIds) mask[r * words + (id >> 5)]! |= 1 << (id & 31);
      }
      put('mask', Tensor.from(this.#stream, 'i32', [rows.length, words], mask));
    }
    return { args, temporary };
  }

  dispose(): void {
    for (const b of this.#buffers.values()) b.dispose();
    this.#buffers.clear();
  }
}

function unpack(
  data: ArrayBufferView & { buffer: ArrayBufferLike },
  rows: readonly SampleRow[],
  top: number,
): Drawn[] {
  const ints = new Int32Array(data.buffer);
  const floats = new Float32Array(data.buffer);
  const n = rows.length;
  return rows.map((row, r) => ({
    id: ints[r]!,
    logprob: floats[n + r]!,
    top: row.params.logprobs
      ? Array.from({ length: row.params.logprobs }, (_, k) => ({
          id: ints[2 * n + r * top + k]!,
          logprob: floats[n * (2 + top) + r * top + k]!,
        }))
      : NO_TOP,
  }));
}
