import type { Drawn } from '../sampling/index.ts';
import type { Controller, FinishReason } from './controller.ts';

/** Calls `fork` once, when the prompt is in the cache, which is when the first token comes; `never` when it ends before. */
export class ForkingController implements Controller {
  readonly #inner: Controller;
  readonly #events: { fork: () => void; never: (reason: FinishReason) => void };
  #forked = false;

  constructor(inner: Controller, events: { fork: () => void; never: (reason: FinishReason) => void }) {
    this.#inner = inner;
    this.#events = events;
  }

  accept(token: Drawn, eos: boolean): FinishReason | null {
    if (!this.#forked) {
      this.#forked = true;
      this.#events.fork();
    }
    return this.#inner.accept(token, eos);
  }

  finish(reason: FinishReason, error?: unknown): void {
    this.#inner.finish(reason, error);
    if (!this.#forked) this.#events.never(reason);
  }
}
