import { KvCache, type KvGroup } from '../kv/cache.ts';
import type { LlamaModel } from '../models/index.ts';
import { BatchBuffer } from '../nn/forward-batch.ts';
import type { Graph } from '../tensor/stream.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { ScheduledRows } from './scheduler.ts';

interface Prepared {
  buffer: BatchBuffer;
  graph: Graph | null;
  logits: Tensor | null;
  /** Where the graph takes its token ids from, when not from the batch. */
  ids: Tensor | null;
  uses: number;
  /** Generation of the activations' memory that the graph was recorded with. */
  workspace: number;
}

/** Shapes whose buffers are kept; the least recently used one goes first. */
const KEPT = 48;

/** Runs steps of a model: fills the batch, then calls the model, or replays its graph when the shape comes again. */
export class ModelRunner {
  readonly model: LlamaModel;
  readonly cache: KvCache;
  readonly #maxPages: number;
  readonly #prepared = new Map<string, Prepared>();

  constructor(model: LlamaModel, group: KvGroup, contextLength: number) {
    this.model = model;
    this.cache = new KvCache(model.stream, group);
    this.#maxPages = Math.ceil(contextLength / group.pageSize);
  }

  #get(tokens: number, sequences: number, logitRows: number, ids: Tensor | null): Prepared {
    const key = `${tokens}/${sequences}/${logitRows}${ids ? '/ids' : ''}`;
    let p = this.#prepared.get(key);
    if (p) {
      this.#prepared.delete(key);
    } else {
      if (this.#prepared.size >= KEPT) this.#drop(this.#prepared.keys().next().value!);
      p = {
        buffer: new BatchBuffer(this.model.stream, { tokens, sequences, logitRows }, this.#maxPages),
        graph: null,
        logits: null,
        ids,
        uses: 0,
        workspace: -1,
      };
    }
    if (p.ids !== ids) {
      p.ids = ids;
      p.graph?.dispose();
      p.graph = null;
    }
    this.#prepared.set(key, p);
    return p;
  }

  #drop(key: string): void {
    const p = this.#prepared.get(key);
    p?.graph?.dispose();
    p?.buffer.dispose();
    this.#prepared.delete(key);
  }

  /**
   * Enqueues a step. `logitRows[i]` lists, for rows[i], which of its `count` tokens need logits. `ids` i32[T] are the tokens where the
   * host does not know them yet. Returns logits f32[R,V] in that order, valid until the next step; null when none are wanted.
   */
  step(
    rows: readonly ScheduledRows[],
    logitRows: readonly (readonly number[])[],
    ids: Tensor | null = null,
  ): Tensor | null {
    const tokens = rows.reduce((n, r) => n + r.count, 0);
    const wanted = logitRows.reduce((n, l) => n + l.length, 0);
    const p = this.#get(tokens, rows.length, wanted, ids);
    const h = p.buffer.host;
    let t = 0;
    let r = 0;
    h.qStart[0] = 0;
    for (let b = 0; b < rows.length; b++) {
      const { sequence: s, start, count } = rows[b]!;
      for (const i of logitRows[b]!) h.logitRows[r++] = t + i;
      for (let i = 0; i < count; i++, t++) {
        const position = start + i;
        h.ids[t] = s.ids[position] ?? 0; // not known yet: the graph takes it from elsewhere
        h.rows[t] = position;
        h.slots[t] = s.table.slot(position);
      }
      h.seqLens[b] = start + count;
      h.qStart[b + 1] = t;
      const { pages } = s.table;
      for (let i = 0; i < pages.length; i++) h.blockTable[b * this.#maxPages + i] = pages[i]!;
    }
    p.buffer.upload();
    return this.#run(p);
  }

  /** Calls the model twice for a new shape (its buffers may still move), records it, then replays. */
  #run(p: Prepared): Tensor | null {
    p.uses++;
    const workspace = this.model.workspaceGeneration;
    if (p.graph && p.workspace === workspace) {
      p.graph.launch();
      return p.logits;
    }
    p.graph?.dispose();
    p.graph = null;
    const batch = p.ids ? { ...p.buffer.batch, ids: p.ids } : p.buffer.batch;
    if (p.uses < 3) return this.model.forward(batch, this.cache);
    p.graph = this.model.stream.capture(() => {
      p.logits = this.model.forward(batch, this.cache);
    });
    p.workspace = this.model.workspaceGeneration;
    p.graph.launch();
    return p.logits;
  }

  dispose(): void {
    for (const key of [...this.#prepared.keys()]) this.#drop(key);
    this.cache.dispose();
  }
}
