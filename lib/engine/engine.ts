import { EyrieError } from '../errors.ts';
import { BlockPool } from '../kv/block-pool.ts';
import { BlockTable } from '../kv/block-table.ts';
import { type KvDType, kvBytes } from '../kv/cache.ts';
import type { LlamaModel } from '../models/index.ts';
import { type Drawn, resolveSampling, Sampler, type SamplingParams } from '../sampling/index.ts';
import type { Controller, FinishReason } from './controller.ts';
import { ModelRunner } from './model-runner.ts';
import { PenaltyCounts } from './penalty-counts.ts';
import { type ScheduledRows, Scheduler } from './scheduler.ts';
import { Sequence } from './sequence.ts';

export interface EngineOptions {
  /** Longest sequence, prompt included. */
  contextLength: number;
  /** Tokens that the KV cache holds, over all sequences. */
  kvTokens: number;
  /** @default 32 */
  pageSize?: number;
  kvDtype: KvDType;
  /** Rows of one step. */
  maxBatchTokens: number;
  /** Sequences of one step. */
  maxSequences: number;
}

export interface SubmitOptions {
  sampling?: SamplingParams;
  maxTokens: number;
  stopIds: ReadonlySet<number>;
  controller: Controller;
  signal?: AbortSignal | undefined;
}

/**
 * The decoding loop: several sequences in one batch over a shared paged cache. Everything is in ids; text is a Controller's business.
 */
export class Engine {
  readonly model: LlamaModel;
  readonly options: EngineOptions;
  readonly #runner: ModelRunner;
  readonly #sampler: Sampler;
  readonly #pool: BlockPool;
  readonly #scheduler: Scheduler;
  readonly #penalties: PenaltyCounts;
  readonly #pageSize: number;
  #loop: Promise<void> | null = null;
  #closed = false;
  /** Time the JavaScript side of steps took, and steps, since the start: what `bench:decode` reports. */
  readonly stats = { steps: 0, hostMs: 0, stepMs: 0 };

  constructor(model: LlamaModel, options: EngineOptions) {
    this.model = model;
    this.options = options;
    this.#pageSize = options.pageSize ?? 32;
    const c = model.config;
    const pages = Math.ceil(options.kvTokens / this.#pageSize);
    this.#runner = new ModelRunner(
      model,
      {
        layers: c.layers.length,
        kvHeads: c.kvHeads,
        headDim: c.headDim,
        pageSize: this.#pageSize,
        pages,
        dtype: options.kvDtype,
      },
      options.contextLength,
    );
    this.#sampler = new Sampler(model.stream, c.vocabSize);
    this.#pool = new BlockPool(pages);
    this.#scheduler = new Scheduler(options);
    this.#penalties = new PenaltyCounts(model.stream, options.maxSequences, c.vocabSize);
  }

  /** Bytes of the KV cache. */
  get kvBytes(): number {
    return kvBytes(this.#runner.cache.group);
  }

  get freePages(): number {
    return this.#pool.free;
  }

  get pages(): number {
    return this.#pool.pages;
  }

  /**
   * Queues a sequence; its controller sees the tokens.
   * @throws EyrieError EYRIE_CONTEXT_LENGTH, EYRIE_INVALID_ARGUMENT, EYRIE_DISPOSED
   */
  submit(promptIds: readonly number[], options: SubmitOptions): Sequence {
    this.#open();
    const { contextLength } = this.options;
    const vocab = this.model.config.vocabSize;
    if (promptIds.length === 0)
      throw new EyrieError(
        'EYRIE_INVALID_ARGUMENT',
        'prompt: expected at least one token, got none; give a longer prompt',
      );
    const bad = promptIds.find((id) => !Number.isInteger(id) || id < 0 || id >= vocab);
    if (bad !== undefined)
      throw new EyrieError('EYRIE_INVALID_ARGUMENT', `prompt: expected token ids below ${vocab}, got ${bad}`);
    if (promptIds.length >= contextLength) {
      throw new EyrieError(
        'EYRIE_CONTEXT_LENGTH',
        `the prompt has ${promptIds.length} tokens, the context ${contextLength}; shorten the prompt or load with a larger contextLength`,
      );
    }
    if (!Number.isInteger(options.maxTokens) || options.maxTokens < 1) {
      throw new EyrieError(
        'EYRIE_INVALID_ARGUMENT',
        `maxTokens: expected an integer >= 1, got ${options.maxTokens}`,
      );
    }
    const sequence = new Sequence({
      ids: [...promptIds],
      promptLength: promptIds.length,
      params: resolveSampling(options.sampling ?? {}, vocab),
      maxTokens: Math.min(options.maxTokens, contextLength - promptIds.length),
      stopIds: options.stopIds,
      controller: options.controller,
      table: new BlockTable(this.#pool, this.#pageSize),
    });
    this.#admit(sequence, options.signal);
    return sequence;
  }

  /**
   * Starts another sequence from the first `length` tokens of `parent` (default: all it has now). Full pages are shared by
   * reference; the last partial one is copied when either writes to it.
   */
  fork(parent: Sequence, options: SubmitOptions, length: number = parent.ids.length): Sequence {
    this.#open();
    if (parent.state === 'finished')
      throw new EyrieError(
        'EYRIE_DISPOSED',
        'fork: the sequence has ended and its pages are gone; submit a new one',
      );
    if (!Number.isInteger(length) || length < 1 || length > parent.ids.length) {
      throw new EyrieError(
        'EYRIE_INVALID_ARGUMENT',
        `fork: length must be from 1 to the sequence's ${parent.ids.length} tokens, got ${length}`,
      );
    }
    // At least one token must be computed again, to have logits to draw from.
    const shared = Math.min(parent.numComputed, length - 1);
    const sequence = new Sequence({
      ids: parent.ids.slice(0, length),
      promptLength: length,
      params: resolveSampling(options.sampling ?? {}, this.model.config.vocabSize),
      maxTokens: Math.min(options.maxTokens, this.options.contextLength - length),
      stopIds: options.stopIds,
      controller: options.controller,
      table: parent.table.fork(shared),
    });
    if (sequence.maxTokens < 1) {
      sequence.table.release();
      throw new EyrieError(
        'EYRIE_CONTEXT_LENGTH',
        `fork: the sequence fills its context of ${this.options.contextLength} tokens`,
      );
    }
    sequence.numComputed = shared;
    this.#admit(sequence, options.signal);
    return sequence;
  }

  /** Ends a sequence; its pages are free at once, or when the step that runs now ends. */
  abort(sequence: Sequence): void {
    if (sequence.state === 'finished') return;
    if (this.#inFlight.has(sequence)) sequence.pendingFinish = { reason: 'abort' };
    else this.#finish(sequence, 'abort');
  }

  readonly #inFlight = new Set<Sequence>();

  #open(): void {
    if (this.#closed) throw new EyrieError('EYRIE_DISPOSED', 'the engine is closed; load the model again');
  }

  #admit(sequence: Sequence, signal?: AbortSignal): void {
    // One page more than the tokens need where the last page of a fork will be copied.
    sequence.reservedPages =
      Math.ceil((sequence.ids.length + sequence.maxTokens) / this.#pageSize) +
      (sequence.table.pages.length > 0 ? 1 : 0);
    if (sequence.reservedPages > this.#pool.pages) {
      sequence.table.release();
      throw new EyrieError(
        'EYRIE_OUT_OF_MEMORY',
        `prompt and maxTokens need ${sequence.ids.length + sequence.maxTokens} tokens of KV cache, it holds ${this.#pool.pages * this.#pageSize}; lower maxTokens or load with a larger kvTokens`,
      );
    }
    if (signal?.aborted) {
      this.#finish(sequence, 'abort');
      return;
    }
    signal?.addEventListener('abort', () => this.abort(sequence), { once: true });
    this.#scheduler.waiting.push(sequence);
    this.#loop ??= this.#run();
  }

  #finish(sequence: Sequence, reason: FinishReason, error?: unknown): void {
    if (sequence.state === 'finished') return;
    sequence.state = 'finished';
    sequence.finishReason = reason;
    this.#scheduler.remove(sequence);
    sequence.table.release();
    if (sequence.countsRow >= 0) this.#penalties.release(sequence.countsRow);
    sequence.controller.finish(reason, error);
  }

  async #run(): Promise<void> {
    // Sequences submitted in one turn of the event loop start in one step.
    await null;
    while (!this.#scheduler.idle && !this.#closed) {
      const started = performance.now();
      const rows = this.#scheduler.schedule(this.#pool.free);
      if (rows.length === 0) {
        // Nothing runs and the first in line does not fit: waiting forks hold the pages.
        const first = this.#scheduler.waiting[0]!;
        this.#finish(
          first,
          'abort',
          new EyrieError(
            'EYRIE_OUT_OF_MEMORY',
            'waiting sequences hold too much of the KV cache; load with a larger kvTokens',
          ),
        );
        continue;
      }
      try {
        await this.#step(rows, started);
      } catch (error) {
        for (const { sequence } of rows) {
          this.#inFlight.delete(sequence);
          this.#finish(sequence, 'abort', error);
        }
      }
    }
    // In the same turn as the last look at the queue: a sequence submitted later starts a new loop.
    this.#loop = null;
  }

  async #step(rows: ScheduledRows[], started: number): Promise<void> {
    // Rows whose last token is computed now draw the next one.
    const drawing = rows.filter(({ sequence: s, count }) => s.numComputed + count === s.ids.length);
    let enqueued = 0;
    const pending = this.model.stream.together(() => {
      const draws = this.#enqueue(rows, drawing);
      enqueued = performance.now(); // the kernels start behind this, and may take this thread's core
      return draws;
    });
    const drawn = await pending;
    const resumed = performance.now();
    for (const { sequence: s, count } of rows) {
      s.numComputed += count;
      this.#inFlight.delete(s);
    }
    for (const [i, { sequence: s }] of drawing.entries()) this.#accept(s, drawn[i]!);
    for (const { sequence: s } of rows)
      if (s.pendingFinish && s.state !== 'finished')
        this.#finish(s, s.pendingFinish.reason, s.pendingFinish.error);
    const ended = performance.now();
    this.stats.steps++;
    this.stats.hostMs += enqueued - started + (ended - resumed);
    this.stats.stepMs += ended - started;
  }

  /** Everything of a step up to its draws; returns what resolves with them, in the order of `drawing`. */
  #enqueue(rows: ScheduledRows[], drawing: ScheduledRows[]): Promise<Drawn[]> {
    const { stream } = this.model;
    for (const { sequence: s, count } of rows) {
      this.#inFlight.add(s);
      const copies = s.table.prepare(s.numComputed, s.numComputed + count);
      this.#runner.cache.copyPages(stream, copies);
      if (s.params.penalised && s.countsRow < 0) s.countsRow = this.#penalties.claim(s.ids, s.promptLength);
    }
    const logits = this.#runner.step(
      rows,
      rows.map((r) => (r.sequence.numComputed + r.count === r.sequence.ids.length ? [r.count - 1] : [])),
    );
    if (!logits) return stream.sync().then(() => []);
    const draws = drawing.map(({ sequence: s }) => ({
      params: s.params,
      position: s.ids.length,
      countsRow: s.countsRow,
    }));
    return this.#sampler.draw(logits, draws, this.#penalties.tensor);
  }

  #accept(s: Sequence, token: Drawn): void {
    if (s.state === 'finished' || s.pendingFinish) return;
    if (token.id < 0) {
      this.#finish(
        s,
        'abort',
        new EyrieError(
          'EYRIE_EXECUTION',
          'the model gave no finite logit to draw from: the weights are damaged, or every token is forbidden',
        ),
      );
      return;
    }
    s.ids.push(token.id);
    if (s.countsRow >= 0) this.#penalties.add(s.countsRow, token.id);
    const eos = s.stopIds.has(token.id);
    const reason =
      s.controller.accept(token, eos) ?? (eos ? 'stop' : s.numGenerated >= s.maxTokens ? 'length' : null);
    if (reason) this.#finish(s, reason);
  }

  /** Ends every sequence with EYRIE_ABORTED and frees the cache. Resolves when the step that runs now has ended. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#loop;
    const error = new EyrieError('EYRIE_ABORTED', 'the engine was closed');
    for (const s of [...this.#scheduler.running, ...this.#scheduler.waiting]) this.#finish(s, 'abort', error);
    this.#sampler.dispose();
    this.#penalties.dispose();
    this.#runner.dispose();
  }
}
