import { EyrieError } from '../errors.ts';
import { NO_TOP } from '../sampling/index.ts';
import type { FinishReason } from './controller.ts';
import { PartQueue } from './part-queue.ts';
import type { TextPart, TextSink } from './text-controller.ts';

/** One sequence of a generation, complete. */
export interface Choice {
  index: number;
  text: string;
  ids: number[];
  logprobs: number[];
  finishReason: FinishReason;
}

export interface Timings {
  /** From the call to the first token. */
  firstTokenMs: number;
  /** From the first token to the last. */
  generateMs: number;
  promptTokensPerSecond: number;
  generatedTokensPerSecond: number;
}

export interface GenerationResult {
  promptIds: number[];
  /** The first choice's. */
  text: string;
  ids: number[];
  finishReason: FinishReason;
  choices: Choice[];
  timings: Timings;
}

/** A piece of a running generation; `index` tells the choices of `n > 1` apart. */
export interface GenerationPart extends TextPart {
  index: number;
}

/**
 * A running generation: an async iterable of parts, each delivered once, and a promise of the whole. Leaving the loop early (break,
 * throw) aborts it.
 */
export class Generation implements AsyncIterable<GenerationPart> {
  readonly #parts: PartQueue<GenerationPart>;
  readonly #choices: Choice[] = [];
  readonly #started: number = performance.now();
  readonly #cancel: () => void;
  #open = 0;
  #firstToken = 0;
  #lastToken = 0;
  #promptIds: number[] = [];
  #settle!: { resolve: (r: GenerationResult) => void; reject: (e: unknown) => void };
  readonly #result: Promise<GenerationResult>;

  /** @internal `start` submits the sequences; `cancel` aborts them. */
  constructor(start: (generation: Generation) => Promise<void>, cancel: () => void) {
    this.#cancel = cancel;
    this.#parts = new PartQueue(cancel);
    this.#result = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Whoever only iterates gets the error from the loop; the promise must not count as unhandled.
    this.#result.catch(() => {});
    start(this).catch((error) => this.#fail(error));
  }

  /** @internal */
  setPrompt(ids: number[]): void {
    this.#promptIds = ids;
  }

  /** @internal A sink for the text of one more choice. */
  choice(): TextSink {
    const choice: Choice = {
      index: this.#choices.length,
      text: '',
      ids: [],
      logprobs: [],
      finishReason: 'abort',
    };
    this.#choices.push(choice);
    this.#open++;
    return {
      part: (text, token) => {
        this.#lastToken = performance.now();
        this.#firstToken ||= this.#lastToken;
        const { id, logprob, top } = token;
        choice.text += text;
        choice.ids.push(id);
        choice.logprobs.push(logprob);
        this.#parts.push({ text, id, logprob, top, index: choice.index });
      },
      end: (rest, reason, error) => {
        choice.finishReason = reason;
        choice.text += rest;
        if (rest) this.#parts.push({ text: rest, id: -1, logprob: 0, top: NO_TOP, index: choice.index });
        if (error) this.#fail(error);
        if (--this.#open === 0) this.#complete();
      },
    };
  }

  #fail(error: unknown): void {
    this.#settle.reject(error);
    this.#parts.end({ is: error });
    this.#cancel();
  }

  #complete(): void {
    const tokens = this.#choices.reduce((n, c) => n + c.ids.length, 0);
    const firstTokenMs = (this.#firstToken || performance.now()) - this.#started;
    const generateMs = this.#lastToken - this.#firstToken;
    const first = this.#choices[0]!;
    this.#settle.resolve({
      promptIds: this.#promptIds,
      text: first.text,
      ids: first.ids,
      finishReason: first.finishReason,
      choices: this.#choices,
      timings: {
        firstTokenMs,
        generateMs,
        promptTokensPerSecond: (this.#promptIds.length / firstTokenMs) * 1000,
        generatedTokensPerSecond: generateMs > 0 ? ((tokens - this.#choices.length) / generateMs) * 1000 : 0,
      },
    });
    this.#parts.end();
  }

  /** The whole generation; rejects with what went wrong. An abort by signal resolves, with finishReason `'abort'`. */
  result(): Promise<GenerationResult> {
    return this.#result;
  }

  /** The text of the first choice. */
  async text(): Promise<string> {
    return (await this.#result).text;
  }

  /** Ends the generation; the parts made so far remain. */
  abort(): void {
    this.#cancel();
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<GenerationPart, undefined> {
    return this.#parts;
  }
}

/** The error of a prompt that is not a string or a list of ids. */
export function invalidPrompt(got: unknown): EyrieError {
  return new EyrieError(
    'EYRIE_INVALID_ARGUMENT',
    `prompt: expected a string or an array of token ids, got ${typeof got}`,
  );
}
