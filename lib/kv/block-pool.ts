import { EyrieError } from '../errors.ts';

/**
 * Which pages of a cache are free, and how many block tables refer to each of the others. Forked sequences share their full pages
 * by reference.
 */
export class BlockPool {
  readonly pages: number;
  #references: Int32Array;
  /** Free pages; the last one is handed out first. */
  #free: number[];

  constructor(pages: number) {
    this.pages = pages;
    this.#references = new Int32Array(pages);
    this.#free = Array.from({ length: pages }, (_, i) => pages - 1 - i);
  }

  get free(): number {
    return this.#free.length;
  }

  /** @throws EyrieError EYRIE_OUT_OF_MEMORY when no page is free (the scheduler admits so that this does not happen) */
  allocate(): number {
    const page = this.#free.pop();
    if (page === undefined) {
      throw new EyrieError(
        'EYRIE_OUT_OF_MEMORY',
        `all ${this.pages} pages of the KV cache are in use; raise kvTokens or end sequences`,
      );
    }
    this.#references[page] = 1;
    return page;
  }

  share(page: number): void {
    this.#references[page]!++;
  }

  isShared(page: number): boolean {
    return this.#references[page]! > 1;
  }

  release(page: number): void {
    if (this.#references[page]! < 1) throw new Error(`page ${page} is released twice`);
    if (--this.#references[page]! === 0) this.#free.push(page);
  }
}
