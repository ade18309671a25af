import type { BlockTable } from '../kv/block-table.ts';
import type { ResolvedSampling } from '../sampling/index.ts';
import type { Controller, FinishReason } from './controller.ts';

export type SequenceState = 'waiting' | 'running' | 'finished';

let nextId = 1;

/**
 * One sequence of tokens. `numComputed` of them have keys and values in the cache; there is no prefill and no decode phase, only
 * tokens not computed yet.
 */
export class Sequence {
  readonly id: number = nextId++;
  readonly ids: number[];
  readonly promptLength: number;
  readonly params: ResolvedSampling;
  readonly maxTokens: number;
  readonly stopIds: ReadonlySet<number>;
  readonly controller: Controller;
  readonly table: BlockTable;
  numComputed = 0;
  state: SequenceState = 'waiting';
  finishReason: FinishReason | null = null;
  /** Row of the penalty counts, -1 when nothing is penalised. */
  countsRow = -1;
  /** Set by an abort or a failure while a step runs; honoured when the step ends. */
  pendingFinish: { reason: FinishReason; error?: unknown } | null = null;
  /** Pages promised to this sequence at admission. */
  reservedPages = 0;

  constructor(options: {
    ids: number[];
    promptLength: number;
    params: ResolvedSampling;
    maxTokens: number;
    stopIds: ReadonlySet<number>;
    controller: Controller;
    table: BlockTable;
  }) {
    this.ids = options.ids;
    this.promptLength = options.promptLength;
    this.params = options.params;
    this.maxTokens = options.maxTokens;
    this.stopIds = options.stopIds;
    this.controller = options.controller;
    this.table = options.table;
  }

  get numGenerated(): number {
    return this.ids.length - this.promptLength;
  }

  /** Tokens whose keys and values are still to be computed. */
  get numPending(): number {
    return this.ids.length - this.numComputed;
  }
}
