import { BlockPool } from '../kv/block-pool.ts';
import { BlockTable } from '../kv/block-table.ts';
import type { KvDType } from '../kv/cache.ts';
import type { LlamaModel } from '../models/index.ts';
import { resolveSampling, Sampler } from '../sampling/index.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { ModelRunner } from './model-runner.ts';
import { Sequence } from './sequence.ts';

const PAGE = 32;
const NOBODY = { accept: () => null, finish: () => {} };

/** Runs given texts through a model: logits at positions, log-probabilities of what follows. For perplexity, tests and scoring. */
export class Evaluator {
  readonly #model: LlamaModel;
  readonly #runner: ModelRunner;
  readonly #sampler: Sampler;
  readonly #chunk: number;
  readonly #pages: number;

  /** `length`: longest text; `chunk`: tokens of one step. */
  constructor(model: LlamaModel, options: { length: number; kvDtype: KvDType; chunk?: number }) {
    const c = model.config;
    this.#model = model;
    this.#chunk = options.chunk ?? 128;
    this.#pages = Math.ceil(options.length / PAGE);
    this.#runner = new ModelRunner(
      model,
      {
        layers: c.layers.length,
        kvHeads: c.kvHeads,
        headDim: c.headDim,
        pageSize: PAGE,
        pages: this.#pages,
        dtype: options.kvDtype,
      },
      options.length,
    );
    this.#sampler = new Sampler(model.stream, c.vocabSize);
  }

  /** Feeds `ids` in chunks; `use` gets the logits [R,V] of the wanted positions of each chunk. */
  async #feed(
    ids: readonly number[],
    wanted: (position: number) => boolean,
    use: (logits: Tensor, positions: number[]) => Promise<void>,
  ): Promise<void> {
    const table = new BlockTable(new BlockPool(this.#pages), PAGE);
    const params = resolveSampling({}, this.#model.config.vocabSize);
    const sequence = new Sequence({
      ids: [...ids],
      promptLength: ids.length,
      params,
      maxTokens: 1,
      stopIds: new Set(),
      controller: NOBODY,
      table,
    });
    while (sequence.numPending > 0) {
      const from = sequence.numComputed;
      const count = Math.min(this.#chunk, sequence.numPending);
      table.prepare(from, from + count);
      const rows = Array.from({ length: count }, (_, i) => i).filter((i) => wanted(from + i));
      const logits = this.#runner.step([{ sequence, start: sequence.numComputed, count }], [rows]);
      if (logits)
        await use(
          logits,
          rows.map((i) => from + i),
        );
      sequence.numComputed += count;
    }
    await this.#model.stream.sync();
  }

  /** Logits f32[V] at each of the positions. */
  async logits(ids: readonly number[], positions: readonly number[]): Promise<Map<number, Float32Array>> {
    const out = new Map<number, Float32Array>();
    const vocab = this.#model.config.vocabSize;
    await this.#feed(
      ids,
      (p) => positions.includes(p),
      async (logits, at) => {
        const all = (await logits.read()) as Float32Array;
        for (const [i, p] of at.entries()) out.set(p, all.slice(i * vocab, (i + 1) * vocab));
      },
    );
    return out;
  }

  /** Log-probability of ids[i + 1] after ids[0..i], for every i but the last. */
  async score(ids: readonly number[]): Promise<Float64Array> {
    const out = new Float64Array(Math.max(0, ids.length - 1));
    const vocab = this.#model.config.vocabSize;
    await this.#feed(
      ids,
      (p) => p + 1 < ids.length,
      async (logits, at) => {
        // Only one id is allowed in each row, so that is what is drawn, and its log-probability under the raw logits is reported.
        const rows = at.map((p) => ({
          params: resolveSampling({ temperature: 0, seed: 0, allowedIds: [ids[p + 1]!] }, vocab),
          position: 0,
          countsRow: -1,
        }));
        for (const [i, d] of (await this.#sampler.draw(logits, rows, null).drawn).entries())
          out[at[i]!] = d.logprob;
      },
    );
    return out;
  }

  dispose(): void {
    this.#sampler.dispose();
    this.#runner.dispose();
  }
}
