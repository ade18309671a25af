import { EyrieError } from '../errors.ts';
import { BlockPool } from '../kv/block-pool.ts';
import { BlockTable } from '../kv/block-table.ts';
import type { KvDType } from '../kv/cache.ts';
import type { LlamaModel } from '../models/index.ts';
import { type Drawn, resolveSampling, type SamplingParams } from '../sampling/index.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Controller, FinishReason } from './controller.ts';
import { type ScheduledRows, Scheduler } from './scheduler.ts';
import { Sequence } from './sequence.ts';
import { type Step, Steps } from './step.ts';

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
  /**
   * Enqueues the next decoding step while the device still works on this one, so that it never waits for JavaScript. Tokens are the
   * same; the last step of a sequence that ends by a stop token or text is for nothing.
   * @default true
   */
  runAhead?: boolean;
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
  readonly #steps: Steps;
  readonly #pool: BlockPool;
  readonly #scheduler: Scheduler;
  readonly #pageSize: number;
  readonly #runsAhead: boolean;
  #lastEnd = 0;
  #loop: Promise<void> | null = null;
  #closed = false;
  /** Time the JavaScript side of steps took, and steps, since the start: what `bench:decode` reports. */
  readonly stats = { steps: 0, hostMs: 0, stepMs: 0 };

  constructor(model: LlamaModel, options: EngineOptions) {
    this.model = model;
    this.options = options;
    this.#pageSize = options.pageSize ?? 32;
    const pages = Math.ceil(options.kvTokens / this.#pageSize);
    this.#pool = new BlockPool(pages);
    this.#scheduler = new Scheduler(options);
    this.#steps = new Steps(model, { ...options, pageSize: this.#pageSize, pages });
    this.#runsAhead = options.runAhead ?? true;
  }

  /** Bytes of the KV cache. */
  get kvBytes(): number {
    return this.#steps.kvBytes;
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
    this.#steps.forget(sequence);
    sequence.controller.finish(reason, error);
  }

  async #run(): Promise<void> {
    // Sequences submitted in one turn of the event loop start in one step.
    await null;
    let ahead: Step | null = null;
    while ((ahead || !this.#scheduler.idle) && !this.#closed) {
      const step: Step | null = ahead ?? this.#begin();
      ahead = null;
      if (!step) continue;
      if (this.#mayRunAhead(step)) ahead = this.#enqueueAhead(step);
      await this.#complete(step);
    }
    if (ahead) await ahead.drawn.catch(() => {}); // what it uses must outlive it
    // In the same turn as the last look at the queue: a sequence submitted later starts a new loop.
    this.#loop = null;
  }

  /** Schedules and enqueues a step; null when none could be. */
  #begin(): Step | null {
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
      return null;
    }
    try {
      return this.#launch(rows, started, null);
    } catch (error) {
      this.#fail(rows, error);
      return null;
    }
  }

  /**
   * Whether the step after `step` is known while the device still works on it: every sequence goes on with the token that is drawn
   * now (an end that only the token tells makes that step's row a wasted one), and nothing else waits for its turn.
   */
  #mayRunAhead(step: Step): boolean {
    if (!this.#runsAhead || !step.ids || step.drawing.length !== step.rows.length) return false;
    if (this.#scheduler.waiting.length > 0 || this.#scheduler.running.length !== step.rows.length)
      return false;
    return step.rows.every(
      ({ sequence: s }) =>
        s.state === 'running' &&
        !s.pendingFinish &&
        !s.params.penalised && // the counts of the next draw need the token
        s.numGenerated + 1 < s.maxTokens,
    );
  }

  #enqueueAhead(step: Step): Step | null {
    const rows = step.rows.map(({ sequence }) => ({ sequence, start: sequence.ids.length, count: 1 }));
    try {
      const next = this.#launch(rows, performance.now(), step.ids);
      next.drawn.catch(() => {}); // looked at only when `step` is through
      return next;
    } catch {
      return null; // the step after this one comes the plain way, and tells what is wrong
    }
  }

  #launch(rows: ScheduledRows[], started: number, ids: Tensor | null): Step {
    const step = this.#steps.enqueue(rows, started, ids);
    for (const { sequence } of rows) this.#inFlight.add(sequence);
    return step;
  }

  async #complete(step: Step): Promise<void> {
    let drawn: Drawn[];
    try {
      drawn = await step.drawn;
    } catch (error) {
      // A step that ran ahead changed nothing yet. Its plain repetition fails alone for those that make it fail: a token that
      // could not be drawn ends its own sequence only.
      if (step.ahead) for (const { sequence } of step.rows) this.#inFlight.delete(sequence);
      else this.#fail(step.rows, error);
      return;
    }
    const resumed = performance.now();
    for (const { sequence: s, start, count } of step.rows) {
      s.numComputed = start + count;
      this.#inFlight.delete(s);
    }
    for (let i = 0; i < step.drawing.length; i++) this.#accept(step.drawing[i]!.sequence, drawn[i]!);
    for (const { sequence: s } of step.rows)
      if (s.pendingFinish && s.state !== 'finished')
        this.#finish(s, s.pendingFinish.reason, s.pendingFinish.error);
    const ended = performance.now();
    this.stats.steps++;
    this.stats.hostMs += step.hostMs + (ended - resumed);
    this.stats.stepMs += ended - Math.max(step.started, this.#lastEnd);
    this.#lastEnd = ended;
  }

  #fail(rows: readonly ScheduledRows[], error: unknown): void {
    for (const { sequence } of rows) {
      this.#inFlight.delete(sequence);
      this.#finish(sequence, 'abort', error);
    }
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
    this.#steps.count(s, token.id);
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
    this.#steps.dispose();
  }
}
