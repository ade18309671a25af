import { Arena, type Tensor } from '../tensor/index.ts';
import type { Stream } from '../tensor/stream.ts';
import type { ModelConfig } from './config.ts';

/**
 * Activations of a step of T rows. Attention's, the MLP's and the logits share their memory: none is needed while another is made.
 */
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
  /** [R,V], where attention's and the MLP's activations were */
  logits: Tensor;
}

/** Floats between q and attn, a row: whole cache lines, so that both begin at one. */
const queryWidth = (c: ModelConfig): number => Math.ceil((c.heads * c.headDim) / 32) * 32;
/** Floats of a row that are q and attn, or mlp. */
const sharedWidth = (c: ModelConfig): number => Math.max(2 * queryWidth(c), c.intermediateSize);

/** Floats of: the residual stream, what is shared, the two rows before the logits. */
function sizes(c: ModelConfig, tokens: number, logitRows: number): [number, number, number, number] {
  return [
    tokens * c.hiddenSize,
    Math.max(tokens * sharedWidth(c), logitRows * c.vocabSize),
    logitRows * c.hiddenSize,
    logitRows * c.hiddenSize,
  ];
}

/** Bytes of the activations of `tokens` rows and `logitRows` rows of logits. */
export function workspaceBytes(c: ModelConfig, tokens: number, logitRows: number): number {
  return 4 * sizes(c, tokens, logitRows).reduce((a, n) => a + n, 0);
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
  #tokens = 0;
  #logitRows = 0;
  #arena: Arena | null = null;
  #memory: Tensor[] = [];
  /** Views by number of rows. */
  readonly #rows = new Map<number, Rows>();
  readonly #heads = new Map<number, Head>();

  constructor(stream: Stream, config: ModelConfig) {
    this.#stream = stream;
    this.#c = config;
  }

  /** The activations of a step of `tokens` rows that wants logits of `logitRows` of them; `head` is null when it wants none. */
  get(tokens: number, logitRows: number): { rows: Rows; head: Head | null } {
    if (tokens > this.#tokens || logitRows > this.#logitRows) this.#grow(tokens, logitRows);
    return { rows: this.#rowsOf(tokens), head: logitRows > 0 ? this.#headOf(logitRows) : null };
  }

  #grow(tokens: number, logitRows: number): void {
    this.dispose();
    this.#tokens = Math.max(tokens, this.#tokens);
    this.#logitRows = Math.max(logitRows, this.#logitRows);
    const shapes = sizes(this.#c, this.#tokens, this.#logitRows).map((n) => [n]);
    this.#arena = new Arena(this.#stream, Arena.bytesFor(shapes.map((shape) => ({ shape }))));
    this.#memory = shapes.map((shape) => this.#arena!.take('f32', shape));
    this.generation++;
  }

  #rowsOf(tokens: number): Rows {
    const known = this.#rows.get(tokens);
    if (known) return known;
    const c = this.#c;
    const [x, shared] = this.#memory as [Tensor, Tensor];
    const offset = tokens * queryWidth(c);
    const views: Rows = {
      x: x.view([tokens, c.hiddenSize]),
      q: shared.view([tokens, c.heads, c.headDim]),
      attn: shared.view([tokens, c.heads, c.headDim], { offset }),
      attn2: shared.view([tokens, c.heads * c.headDim], { offset }),
      mlp: shared.view([tokens, c.intermediateSize]),
    };
    this.#rows.set(tokens, views);
    return views;
  }

  #headOf(rows: number): Head {
    const known = this.#heads.get(rows);
    if (known) return known;
    const c = this.#c;
    const [, shared, x, normed] = this.#memory as [Tensor, Tensor, Tensor, Tensor];
    const views: Head = {
      rows: x.view([rows, c.hiddenSize]),
      rows3: x.view([rows, 1, c.hiddenSize]),
      normed: normed.view([rows, c.hiddenSize]),
      normed3: normed.view([rows, 1, c.hiddenSize]),
      logits: shared.view([rows, c.vocabSize]),
    };
    this.#heads.set(rows, views);
    return views;
  }

  dispose(): void {
    for (const views of [...this.#rows.values(), ...this.#heads.values()])
      for (const t of Object.values(views) as Tensor[]) t.dispose();
    this.#rows.clear();
    this.#heads.clear();
    this.#arena?.dispose();
    this.#arena = null;
    this.#memory = [];
  }
}
