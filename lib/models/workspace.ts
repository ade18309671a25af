import { Tensor } from '../tensor/index.ts';
import type { Stream } from '../tensor/stream.ts';
import type { ModelConfig } from './config.ts';

/** Activations of a step of T rows. */
export interface Rows {
  /** [T,C] residual stream */
  x: Tensor;
  /** [T,H,D] */
  q: Tensor;
  /** [T,H,D] and the same memory as [T,H*D] */
  attn: Tensor;
  attn2: Tensor;
  /** [T,I] */
  mlp: Tensor;
}

/** Activations of the output head for R rows. */
export interface Head {
  /** [R,C] and the same memory as [R,1,C] */
  rows: Tensor;
  rows3: Tensor;
  normed: Tensor;
  normed3: Tensor;
  /** [R,V] */
  logits: Tensor;
}

/** Bytes of the activations of `tokens` rows and `logitRows` rows of logits. */
export function workspaceBytes(c: ModelConfig, tokens: number, logitRows: number): number {
  return (
    4 *
    (tokens * (c.hiddenSize + 2 * c.heads * c.headDim + c.intermediateSize) +
      logitRows * (2 * c.hiddenSize + c.vocabSize))
  );
}

/**
 * Activation memory. It grows to the largest step and is viewed by the smaller ones, so that a shape's views stay at one address
 * (captured graphs) until the memory has to grow.
 */
export class Workspace {
  readonly #stream: Stream;
  readonly #c: ModelConfig;
  /** Counts how often memory was replaced. */
  generation = 0;
  #rows: { capacity: number; memory: Tensor[]; views: Map<number, Rows> } = {
    capacity: 0,
    memory: [],
    views: new Map(),
  };
  #head: { capacity: number; memory: Tensor[]; views: Map<number, Head> } = {
    capacity: 0,
    memory: [],
    views: new Map(),
  };

  constructor(stream: Stream, config: ModelConfig) {
    this.#stream = stream;
    this.#c = config;
  }

  #allocate(...sizes: number[]): Tensor[] {
    this.generation++;
    return sizes.map((n) => Tensor.empty(this.#stream, 'f32', [n]));
  }

  get(tokens: number): Rows {
    const c = this.#c;
    const qSize = c.heads * c.headDim;
    if (tokens > this.#rows.capacity) {
      this.#release(this.#rows);
      this.#rows = {
        capacity: tokens,
        memory: this.#allocate(
          tokens * c.hiddenSize,
          tokens * qSize,
          tokens * qSize,
          tokens * c.intermediateSize,
        ),
        views: new Map(),
      };
    }
    let v = this.#rows.views.get(tokens);
    if (!v) {
      const [x, q, attn, mlp] = this.#rows.memory as [Tensor, Tensor, Tensor, Tensor];
      v = {
        x: x.view([tokens, c.hiddenSize]),
        q: q.view([tokens, c.heads, c.headDim]),
        attn: attn.view([tokens, c.heads, c.headDim]),
        attn2: attn.view([tokens, qSize]),
        mlp: mlp.view([tokens, c.intermediateSize]),
      };
      this.#rows.views.set(tokens, v);
    }
    return v;
  }

  head(rows: number): Head {
    const c = this.#c;
    if (rows > this.#head.capacity) {
      this.#release(this.#head);
      this.#head = {
        capacity: rows,
        memory: this.#allocate(rows * c.hiddenSize, rows * c.hiddenSize, rows * c.vocabSize),
        views: new Map(),
      };
    }
    let v = this.#head.views.get(rows);
    if (!v) {
      const [x, normed, logits] = this.#head.memory as [Tensor, Tensor, Tensor];
      v = {
        rows: x.view([rows, c.hiddenSize]),
        rows3: x.view([rows, 1, c.hiddenSize]),
        normed: normed.view([rows, c.hiddenSize]),
        normed3: normed.view([rows, 1, c.hiddenSize]),
        logits: logits.view([rows, c.vocabSize]),
      };
      this.#head.views.set(rows, v);
    }
    return v;
  }

  #release(block: { memory: Tensor[]; views: Map<number, Rows | Head> }): void {
    for (const v of block.views.values()) for (const t of Object.values(v) as Tensor[]) t.dispose();
    for (const t of block.memory) t.dispose();
  }

  dispose(): void {
    this.#release(this.#rows);
    this.#release(this.#head);
  }
}
