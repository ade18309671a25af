import { type KvDType, kvBytes } from '../kv/cache.ts';
import type { LlamaModel } from '../models/index.ts';
import { type Drawn, Sampler } from '../sampling/index.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { ModelRunner } from './model-runner.ts';
import { PenaltyCounts } from './penalty-counts.ts';
import type { ScheduledRows } from './scheduler.ts';
import type { Sequence } from './sequence.ts';

/** A step that was enqueued. */
export interface Step {
  rows: ScheduledRows[];
  /** Those of `rows` that draw a token. */
  drawing: ScheduledRows[];
  /** Whether the tokens of its rows were not known yet when it was enqueued. */
  ahead: boolean;
  /** i32[R] the drawn tokens on the device; null when none are drawn. */
  ids: Tensor | null;
  drawn: Promise<Drawn[]>;
  started: number;
  /** Time that enqueueing took. */
  hostMs: number;
}

const NOTHING: Promise<Drawn[]> = Promise.resolve([]);

/** Turns scheduled rows into device work: copies of pages, the model, the draws. */
export class Steps {
  readonly #model: LlamaModel;
  readonly #runner: ModelRunner;
  readonly #sampler: Sampler;
  readonly #penalties: PenaltyCounts;

  constructor(
    model: LlamaModel,
    options: {
      pages: number;
      pageSize: number;
      kvDtype: KvDType;
      contextLength: number;
      maxSequences: number;
    },
  ) {
    const c = model.config;
    this.#model = model;
    this.#runner = new ModelRunner(
      model,
      {
        layers: c.layers.length,
        kvHeads: c.kvHeads,
        headDim: c.headDim,
        pageSize: options.pageSize,
        pages: options.pages,
        dtype: options.kvDtype,
      },
      options.contextLength,
    );
    this.#sampler = new Sampler(model.stream, c.vocabSize);
    this.#penalties = new PenaltyCounts(model.stream, options.maxSequences, c.vocabSize);
  }

  /** Bytes of the KV cache. */
  get kvBytes(): number {
    return kvBytes(this.#runner.cache.group);
  }

  /** Enqueues everything of a step up to its draws. `ids`: the tokens of its rows, where only the device knows them. */
  enqueue(rows: ScheduledRows[], started: number, ids: Tensor | null): Step {
    const { stream } = this.#model;
    const draws = (r: ScheduledRows): boolean => ids !== null || r.start + r.count === r.sequence.ids.length; // the last token is computed now
    const drawing = rows.filter(draws);
    const step: Step = { rows, drawing, ahead: ids !== null, ids: null, drawn: NOTHING, started, hostMs: 0 };
    stream.together(() => {
      for (const { sequence: s, start, count } of rows) {
        this.#runner.cache.copyPages(stream, s.table.prepare(start, start + count));
        if (s.params.penalised && s.countsRow < 0) s.countsRow = this.#penalties.claim(s.ids, s.promptLength);
      }
      const logits = this.#runner.step(
        rows,
        rows.map((r) => (draws(r) ? [r.count - 1] : [])),
        ids,
      );
      if (logits) {
        const wanted = drawing.map(({ sequence: s, start, count }) => ({
          params: s.params,
          position: start + count,
          countsRow: s.countsRow,
        }));
        Object.assign(step, this.#sampler.draw(logits, wanted, this.#penalties.tensor));
      } else {
        step.drawn = stream.sync().then(() => []);
      }
      step.hostMs = performance.now() - started; // the kernels start behind this, and may take this thread's core
    });
    return step;
  }

  /** Counts a token of a sequence with penalties. */
  count(s: Sequence, id: number): void {
    if (s.countsRow >= 0) this.#penalties.add(s.countsRow, id);
  }

  /** Frees what is kept for a sequence. */
  forget(s: Sequence): void {
    if (s.countsRow >= 0) this.#penalties.release(s.countsRow);
  }

  dispose(): void {
    this.#sampler.dispose();
    this.#penalties.dispose();
    this.#runner.dispose();
  }
}
