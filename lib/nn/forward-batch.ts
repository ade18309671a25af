import type { Stream } from '../tensor/stream.ts';
import { Tensor } from '../tensor/tensor.ts';

/** The sizes of one step. */
export interface BatchShape {
  /** T: rows, one per token. */
  tokens: number;
  /** B: sequences. */
  sequences: number;
  /** R: rows that need logits. */
  logitRows: number;
}

/** What a forward pass needs to know of a step: passed as an argument, never held in a global. */
export interface ForwardBatch extends BatchShape {
  /** i32[T] token ids */
  ids: Tensor;
  /** i32[T] rows of the rope table: positions */
  rows: Tensor;
  /** i32[T] where keys and values go: page * pageSize + slot */
  slots: Tensor;
  /** i32[B,M] */
  blockTable: Tensor;
  /** i32[B] */
  seqLens: Tensor;
  /** i32[B+1] */
  qStart: Tensor;
  /** i32[R] rows of the batch whose logits are wanted */
  logitIndex: Tensor;
}

/** The host's side of a {@link ForwardBatch}: views into one staging array. */
export interface HostBatch {
  ids: Int32Array;
  rows: Int32Array;
  slots: Int32Array;
  blockTable: Int32Array;
  seqLens: Int32Array;
  qStart: Int32Array;
  logitRows: Int32Array;
}

const FIELDS = ['ids', 'rows', 'slots', 'blockTable', 'seqLens', 'qStart', 'logitRows'] as const;

/**
 * The inputs of steps of one shape: a single device buffer at a fixed address (so that captured graphs can be replayed), written
 * in one copy.
 */
export class BatchBuffer {
  readonly host: HostBatch;
  readonly batch: ForwardBatch;
  #staging: Int32Array;
  #device: Tensor;

  constructor(stream: Stream, shape: BatchShape, maxPages: number) {
    const { tokens: t, sequences: b, logitRows: r } = shape;
    const sizes = [t, t, t, b * maxPages, b, b + 1, r];
    const total = sizes.reduce((a, n) => a + n, 0);
    this.#staging = new Int32Array(total);
    this.#device = Tensor.empty(stream, 'i32', [total]);
    const host = {} as Record<string, Int32Array>;
    const device: Tensor[] = [];
    let at = 0;
    for (const [i, n] of sizes.entries()) {
      host[FIELDS[i]!] = this.#staging.subarray(at, at + n);
      device.push(this.#device.view(FIELDS[i] === 'blockTable' ? [b, maxPages] : [n], { offset: at }));
      at += n;
    }
    this.host = host as unknown as HostBatch;
    const [ids, rows, slots, blockTable, seqLens, qStart, logitIndex] = device as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    this.batch = { ...shape, ids, rows, slots, blockTable, seqLens, qStart, logitIndex };
  }

  /** Sends the staging array to the device. */
  upload(): void {
    this.#device.write(this.#staging);
  }

  dispose(): void {
    const b = this.batch;
    for (const t of [b.ids, b.rows, b.slots, b.blockTable, b.seqLens, b.qStart, b.logitIndex, this.#device])
      t.dispose();
  }
}
