import type { Sequence } from './sequence.ts';

/** A sequence's part of a step: `count` tokens from position `start` on. */
export interface ScheduledRows {
  sequence: Sequence;
  start: number;
  count: number;
}

export interface SchedulerLimits {
  /** Rows of one step. */
  maxBatchTokens: number;
  /** Sequences of one step. */
  maxSequences: number;
}

/**
 * Decides what a step computes: running sequences in order of arrival, then waiting ones while pages last. A sequence is admitted
 * when the pages of its longest possible end are free, so that a running one never has to give way.
 */
export class Scheduler {
  readonly waiting: Sequence[] = [];
  readonly running: Sequence[] = [];
  readonly #limits: SchedulerLimits;

  constructor(limits: SchedulerLimits) {
    this.#limits = limits;
  }

  get idle(): boolean {
    return this.waiting.length === 0 && this.running.length === 0;
  }

  /** Pages promised to running sequences that they have not taken yet. */
  get promisedPages(): number {
    return this.running.reduce((n, s) => n + Math.max(0, s.reservedPages - s.table.pages.length), 0);
  }

  schedule(freePages: number): ScheduledRows[] {
    const rows: ScheduledRows[] = [];
    let budget = this.#limits.maxBatchTokens;
    // One token each first, so that a long prompt does not stop those that generate.
    for (const s of this.running) {
      if (budget === 0) break;
      if (s.numPending === 1) {
        rows.push({ sequence: s, start: s.numComputed, count: 1 });
        budget--;
      }
    }
    for (const s of this.running) {
      if (budget === 0) break;
      if (s.numPending > 1) {
        const count = Math.min(s.numPending, budget);
        rows.push({ sequence: s, start: s.numComputed, count });
        budget -= count;
      }
    }
    let available = freePages - this.promisedPages;
    while (this.waiting.length > 0 && budget > 0 && this.running.length < this.#limits.maxSequences) {
      const s = this.waiting[0]!;
      if (s.reservedPages - s.table.pages.length > available) break;
      available -= s.reservedPages - s.table.pages.length;
      this.waiting.shift();
      s.state = 'running';
      this.running.push(s);
      const count = Math.min(s.numPending, budget);
      rows.push({ sequence: s, start: s.numComputed, count });
      budget -= count;
    }
    return rows;
  }

  remove(s: Sequence): void {
    for (const list of [this.waiting, this.running]) {
      const i = list.indexOf(s);
      if (i >= 0) list.splice(i, 1);
    }
  }
}
