import { Arena, type Tensor } from '../tensor/index.ts';
import type { Stream } from '../tensor/stream.ts';
import type { ModelConfig } from './config.ts';

/** Activations of a step of T rows. Attention's and the MLP's share their memory: neither is needed while the other runs. */
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

/** Floats between q and attn, a row: whole cache lines, so that both begin at one. */
const queryWidth = (c: ModelConfig): number => Math.ceil((c.heads * c.headDim) / 32) * 32;
/** Floats of a row that are q and attn, or mlp. */
const sharedWidth = (c: ModelConfig): number => Math.max(2 * queryWidth(c), c.intermediateSize);

/** Bytes of the activations of `tokens` rows and `logitRows` rows of logits. */
export function workspaceBytes(c: ModelConfig, tokens: number, logitRows: number): number {
  return 4 * (tokens * (c.hiddenSize + sharedWidth(c)) + logitRows * (2 * c.hiddenSize + c.vocabSize));
}

interface Block<T> {
  capacity: number;
  arena: Arena | null;
  memory: Tensor[] | null;
  /** Views by number of rows; they share the same memory. */
  views: Map<number, T>;
}

function emptyBlock<T>(): Block<T> {
  return { capacity: 0, arena: null, memory: null, views: new Map() };
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
  #rows: Block<Rows> = emptyBlock();
  #head: Block<Head> = emptyBlock();
  readonly #rowSizes: readonly number[];
  readonly #headSizes: readonly number[];

  constructor(stream: Stream, config: ModelConfig) {
    this.#stream = stream;
    this.#c = config;
    this.#rowSizes = [config.hiddenSize, sharedWidth(config)];
    this.#headSizes = [config.hiddenSize, config.hiddenSize, config.vocabSize];
  }

  /** The block's memory for at least `rows` rows: one tensor per size. */
  #grow<T extends object>(block: Block<T>, rows: number, sizes: readonly number[]): Tensor[] {
    if (rows > block.capacity) {
      this.#release(block);
      block.arena = new Arena(this.#stream, Arena.bytesFor(sizes.map((n) => ({ shape: [rows, n] }))));
      block.capacity = rows;
      this.generation++;
    }
    block.memory ??= sizes.map((n) => block.arena!.take('f32', [block.capacity * n]));
    return block.memory;
  }

  get(tokens: number): Rows {
    const c = this.#c;
    const memory = this.#grow(this.#rows, tokens, this.#rowSizes);
    let v = this.#rows.views.get(tokens);
    if (!v) {
      const [x, shared] = memory as [Tensor, Tensor];
      const offset = tokens * queryWidth(c);
      v = {
        x: x.view([tokens, c.hiddenSize]),
        q: shared.view([tokens, c.heads, c.headDim]),
        attn: shared.view([tokens, c.heads, c.headDim], { offset }),
        attn2: shared.view([tokens, c.heads * c.headDim], { offset }),
        mlp: shared.view([tokens, c.intermediateSize]),
      };
      this.#rows.views.set(tokens, v);
    }
    return v;
  }

  head(rows: number): Head {
    const c = this.#c;
    const memory = this.#grow(this.#head, rows, this.#headSizes);
    let v = this.#head.views.get(rows);
    if (!v) {
      const [x, normed, logits] = memory as [Tensor, Tensor, Tensor];
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

  #release<T extends object>(block: Block<T>): void {
    for (const v of block.views.values()) for (const t of Object.values(v) as Tensor[]) t.dispose();
    block.views.clear();
    block.arena?.dispose();
    block.memory = null;
  }

  dispose(): void {
    this.#release(this.#rows);
    this.#release(this.#head);
  }
}
