import type { Drawn } from '../sampling/index.ts';
import type { StreamDecoder } from '../tokenizer/index.ts';
import type { Controller, FinishReason } from './controller.ts';

/** What one step adds to the text of a sequence. */
export interface TextPart {
  /** New text; empty while a character or a possible stop string is incomplete. */
  text: string;
  /** The token behind it. */
  id: number;
  /** Log-probability of the token under the raw logits. */
  logprob: number;
  /** The most likely tokens at this position, when asked for. */
  top: Drawn['top'];
}

export interface TextSink {
  /** One token, with the text that it completes. */
  part(text: string, token: Drawn): void;
  /** Called once, with text that was held back. */
  end(rest: string, reason: FinishReason, error?: unknown): void;
}

/** Turns tokens into text, holding back what could become a stop string, and ends the sequence when one is complete. */
export class TextController implements Controller {
  readonly #decoder: StreamDecoder;
  readonly #stops: readonly string[];
  readonly #sink: TextSink;
  #held = '';
  #stopped = false;

  constructor(decoder: StreamDecoder, stops: readonly string[], sink: TextSink) {
    this.#decoder = decoder;
    this.#stops = stops.filter((s) => s.length > 0);
    this.#sink = sink;
  }

  accept(token: Drawn, eos: boolean): FinishReason | null {
    if (!eos) this.#held += this.#decoder.push(token.id);
    const stop = this.#findStop();
    if (stop >= 0) {
      this.#stopped = true;
      this.#held = this.#held.slice(0, stop);
    }
    const emit = this.#stopped ? this.#held.length : this.#held.length - this.#undecided();
    this.#sink.part(this.#held.slice(0, emit), token);
    this.#held = this.#held.slice(emit);
    return this.#stopped ? 'stop' : null;
  }

  finish(reason: FinishReason, error?: unknown): void {
    let rest = '';
    if (!this.#stopped) {
      this.#held += this.#decoder.finish();
      const stop = this.#findStop();
      rest = stop >= 0 ? this.#held.slice(0, stop) : this.#held;
    }
    this.#sink.end(rest, reason, error);
  }

  #findStop(): number {
    let first = -1;
    for (const s of this.#stops) {
      const at = this.#held.indexOf(s);
      if (at >= 0 && (first < 0 || at < first)) first = at;
    }
    return first;
  }

  /** Length of the longest end of the text that begins a stop string. */
  #undecided(): number {
    let longest = 0;
    for (const s of this.#stops) {
      for (let n = Math.min(s.length - 1, this.#held.length); n > longest; n--) {
        if (this.#held.endsWith(s.slice(0, n))) {
          longest = n;
          break;
        }
      }
    }
    return longest;
  }
}
