/**
 * What a producer has made and a consumer has not taken yet, as an async iterator. Each value is delivered once, so nothing that was
 * taken stays in memory; several consumers share the values among them. Written out instead of as an async generator, which makes
 * about six objects for every value.
 */
export class PartQueue<T> implements AsyncIterableIterator<T, undefined> {
  readonly #values: T[] = [];
  #taken = 0;
  readonly #waiting: { resolve: (r: IteratorResult<T, undefined>) => void; reject: (e: unknown) => void }[] =
    [];
  #ended = false;
  #error: { is: unknown } | null = null;
  readonly #left: () => void;

  /** `left` is called when a consumer leaves before the end (`break`, `throw`). */
  constructor(left: () => void) {
    this.#left = left;
  }

  push(value: T): void {
    if (this.#ended) return;
    const consumer = this.#waiting.shift();
    if (consumer) consumer.resolve({ value, done: false });
    else this.#values.push(value);
  }

  /** Ends the queue behind the values in it; the first consumer that comes there gets the error, if there is one. */
  end(error?: { is: unknown }): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error ?? null;
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      const e = this.#takeError();
      if (e) reject(e.is);
      else resolve({ value: undefined, done: true });
    }
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#taken < this.#values.length) {
      const value = this.#values[this.#taken]!;
      this.#taken++;
      if (this.#taken === this.#values.length || this.#taken === 1024) {
        this.#values.splice(0, this.#taken);
        this.#taken = 0;
      }
      return Promise.resolve({ value, done: false });
    }
    if (!this.#ended) return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    const e = this.#takeError();
    return e ? Promise.reject(e.is) : Promise.resolve({ value: undefined, done: true });
  }

  #takeError(): { is: unknown } | null {
    const e = this.#error;
    this.#error = null;
    return e;
  }

  return(): Promise<IteratorResult<T, undefined>> {
    if (!this.#ended) this.#left();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
