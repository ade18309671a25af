import type { Stream } from '../tensor/stream.ts';
import { Tensor } from '../tensor/tensor.ts';

const IN_PROMPT = 0x8000;

/** Token counts of the sequences with penalties: u16[U,V] on the device, made when the first one comes. */
export class PenaltyCounts {
  readonly #stream: Stream;
  readonly #vocabSize: number;
  readonly #free: number[];
  readonly #host = new Map<number, Uint16Array>();
  readonly #rows: number;
  #tensor: Tensor | null = null;

  constructor(stream: Stream, rows: number, vocabSize: number) {
    this.#stream = stream;
    this.#vocabSize = vocabSize;
    this.#rows = rows;
    this.#free = Array.from({ length: rows }, (_, i) => rows - 1 - i);
  }

  get tensor(): Tensor | null {
    return this.#tensor;
  }

  /** A row that counts these ids, the first `promptLength` of them as prompt. */
  claim(ids: readonly number[], promptLength: number): number {
    this.#tensor ??= Tensor.empty(this.#stream, 'u16', [this.#rows, this.#vocabSize]);
    const row = this.#free.pop()!; // as many rows as sequences can run
    const counts = new Uint16Array(this.#vocabSize);
    for (const [i, id] of ids.entries()) {
      if (i < promptLength) counts[id]! |= IN_PROMPT;
      else counts[id]!++;
    }
    this.#host.set(row, counts);
    const view = this.#tensor.view([this.#vocabSize], { offset: row * this.#vocabSize });
    view.write(counts);
    view.dispose();
    return row;
  }

  add(row: number, id: number): void {
    const counts = this.#host.get(row)!;
    if ((counts[id]! & ~IN_PROMPT) < 0x7fff) counts[id]!++;
    const view = this.#tensor!.view([1], { offset: row * this.#vocabSize + id });
    view.write(counts.subarray(id, id + 1));
    view.dispose();
  }

  release(row: number): void {
    this.#host.delete(row);
    this.#free.push(row);
  }

  dispose(): void {
    this.#tensor?.dispose();
    this.#tensor = null;
  }
}
