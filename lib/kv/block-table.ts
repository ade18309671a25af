import type { BlockPool } from './block-pool.ts';

/** The pages of one sequence, in the order of its tokens. */
export class BlockTable {
  readonly pages: number[] = [];
  readonly pageSize: number;
  #pool: BlockPool;

  constructor(pool: BlockPool, pageSize: number) {
    this.#pool = pool;
    this.pageSize = pageSize;
  }

  /**
   * Makes room for tokens [from, to): appends pages, and replaces shared pages that would be written, which the caller
   * must then copy on the device.
   */
  prepare(from: number, to: number): { from: number; to: number }[] {
    const copies: { from: number; to: number }[] = [];
    const last = Math.ceil(to / this.pageSize);
    for (let i = Math.floor(from / this.pageSize); i < last; i++) {
      const page = this.pages[i];
      if (page === undefined) {
        this.pages.push(this.#pool.allocate());
      } else if (this.#pool.isShared(page)) {
        const own = this.#pool.allocate();
        copies.push({ from: page, to: own });
        this.#pool.release(page);
        this.pages[i] = own;
      }
    }
    return copies;
  }

  /** A second table on the same pages; `tokens` of them hold data. */
  fork(tokens: number): BlockTable {
    const copy = new BlockTable(this.#pool, this.pageSize);
    for (const page of this.pages.slice(0, Math.ceil(tokens / this.pageSize))) {
      this.#pool.share(page);
      copy.pages.push(page);
    }
    return copy;
  }

  /** Slot of a token: page * pageSize + place in the page. */
  slot(token: number): number {
    return this.pages[Math.floor(token / this.pageSize)]! * this.pageSize + (token % this.pageSize);
  }

  release(): void {
    // Tail first, so that the start of a chain stays longest among the free pages.
    for (const page of this.pages.reverse()) this.#pool.release(page);
    this.pages.length = 0;
  }
}
