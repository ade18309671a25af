import type { KvCache } from '../kv/cache.ts';
import type { ForwardBatch } from '../nn/forward-batch.ts';
import { ropeTable } from '../nn/rope-table.ts';
import * as ops from '../ops/index.ts';
import { Tensor, type Weight } from '../tensor/index.ts';
import type { Stream } from '../tensor/stream.ts';
import type { ModelConfig } from './config.ts';
import type { WeightLoader } from './weight-loader.ts';
import { Workspace } from './workspace.ts';

/** What matrix products round their activations to: by weight format (`auto`), or nothing (`f32`). */
export type Activations = 'auto' | 'f32';

interface Layer {
  attnNorm: Tensor;
  q: Weight;
  k: Weight;
  v: Weight;
  bq: Tensor | null;
  bk: Tensor | null;
  bv: Tensor | null;
  qNorm: Tensor | null;
  kNorm: Tensor | null;
  o: Weight;
  mlpNorm: Tensor;
  gate: Weight;
  up: Weight;
  down: Weight;
  window: number;
  rope: boolean;
}

/** Quantised and bf16 weights meet bf16 activations; f32 and f16 weights promise more, so nothing is rounded. */
function precision(activations: Activations, ...weights: Weight[]): number {
  const exact = activations === 'f32' || weights.some((w) => w.format === 'f32' || w.format === 'f16');
  return exact ? ops.ACTIVATIONS.f32 : ops.ACTIVATIONS.bf16;
}

/**
 * A decoder of the Llama family: RMSNorm, rotary attention with grouped queries, gated silu MLP, pre-norm residuals (Touvron et
 * al. 2023), with the switches of ModelConfig. A layer is five launches; the residual stream is f32.
 */
export class LlamaModel {
  readonly config: ModelConfig;
  readonly stream: Stream;
  readonly #activations: Activations;
  readonly #embedding: Weight;
  readonly #layers: Layer[] = [];
  readonly #norm: Tensor;
  readonly #head: Weight;
  readonly #rope: Tensor;
  readonly #workspaces: Workspace;

  /** @throws EyrieError EYRIE_CONFIG, EYRIE_UNSUPPORTED, EYRIE_OUT_OF_MEMORY */
  static async load(
    stream: Stream,
    config: ModelConfig,
    loader: WeightLoader,
    options: { activations: Activations; positions: number; totalBytes: number },
  ): Promise<LlamaModel> {
    const model = new LlamaModel(stream, config, loader, options.activations, options.positions);
    try {
      for (let i = 0; i < config.layers.length; i++) {
        model.#layers.push(model.#loadLayer(loader, i));
        if (i % 4 === 3) await loader.flush(options.totalBytes);
      }
      await loader.flush(options.totalBytes);
    } catch (error) {
      model.dispose();
      throw error;
    }
    return model;
  }

  private constructor(
    stream: Stream,
    config: ModelConfig,
    loader: WeightLoader,
    activations: Activations,
    positions: number,
  ) {
    this.stream = stream;
    this.config = config;
    this.#activations = activations;
    this.#embedding = loader.matrix('model.embed_tokens.weight', [config.vocabSize, config.hiddenSize]);
    this.#norm = loader.vector('model.norm.weight', config.hiddenSize);
    this.#head = config.tied
      ? this.#embedding
      : loader.matrix('lm_head.weight', [config.vocabSize, config.hiddenSize]);
    this.#rope = Tensor.from(stream, 'f32', [positions, config.rope.dims], ropeTable(config.rope, positions));
    this.#workspaces = new Workspace(stream, config);
  }

  #loadLayer(loader: WeightLoader, i: number): Layer {
    const c = this.config;
    const at = (part: string) => `model.layers.${i}.${part}`;
    const [qRows, kRows] = [c.heads * c.headDim, c.kvHeads * c.headDim];
    const permute = c.permutedHeads ? c.headDim : 0;
    const bias = (part: string, n: number) =>
      c.qkvBias ? loader.vector(at(`self_attn.${part}.bias`), n) : null;
    return {
      attnNorm: loader.vector(at('input_layernorm.weight'), c.hiddenSize),
      q: loader.matrix(at('self_attn.q_proj.weight'), [qRows, c.hiddenSize], permute),
      k: loader.matrix(at('self_attn.k_proj.weight'), [kRows, c.hiddenSize], permute),
      v: loader.matrix(at('self_attn.v_proj.weight'), [kRows, c.hiddenSize]),
      bq: bias('q_proj', qRows),
      bk: bias('k_proj', kRows),
      bv: bias('v_proj', kRows),
      qNorm: c.qkNorm ? loader.vector(at('self_attn.q_norm.weight'), c.headDim) : null,
      kNorm: c.qkNorm ? loader.vector(at('self_attn.k_norm.weight'), c.headDim) : null,
      o: loader.matrix(at('self_attn.o_proj.weight'), [c.hiddenSize, qRows]),
      mlpNorm: loader.vector(at('post_attention_layernorm.weight'), c.hiddenSize),
      gate: loader.matrix(at('mlp.gate_proj.weight'), [c.intermediateSize, c.hiddenSize]),
      up: loader.matrix(at('mlp.up_proj.weight'), [c.intermediateSize, c.hiddenSize]),
      down: loader.matrix(at('mlp.down_proj.weight'), [c.hiddenSize, c.intermediateSize]),
      ...c.layers[i]!,
    };
  }

  /** Enqueues a step; returns its logits f32[R,V], valid until the next step, or null when no row wants any. */
  forward(batch: ForwardBatch, cache: KvCache): Tensor | null {
    const c = this.config;
    const { rows, head } = this.#workspaces.get(batch.tokens, batch.logitRows);
    const { x, q, attn, attn2, mlp } = rows;
    const eps = c.normEps;
    const scale = 1 / Math.sqrt(c.headDim);
    const { debug } = this.stream;
    if (debug) this.stream.label('embedding');
    ops.embed({ table: this.#embedding, ids: batch.ids, out: x });
    for (const [i, l] of this.#layers.entries()) {
      const pages = cache.layers[i]!;
      if (debug) this.stream.label(`layer ${i}`);
      ops.fusedQkv({
        x,
        norm: l.attnNorm,
        eps,
        wq: l.q,
        wk: l.k,
        wv: l.v,
        bq: l.bq,
        bk: l.bk,
        bv: l.bv,
        qNorm: l.qNorm,
        kNorm: l.kNorm,
        rope: l.rope ? this.#rope : null,
        rows: batch.rows,
        slots: batch.slots,
        pages,
        activations: precision(this.#activations, l.q, l.k, l.v),
        out: q,
      });
      ops.pagedAttention({
        q,
        pages,
        blockTable: batch.blockTable,
        seqLens: batch.seqLens,
        qStart: batch.qStart,
        scale,
        window: l.window,
        out: attn,
      });
      ops.linear({ x: attn2, w: l.o, residual: x, activations: precision(this.#activations, l.o), out: x });
      ops.fusedGlu({
        x,
        norm: l.mlpNorm,
        eps,
        gate: l.gate,
        up: l.up,
        activations: precision(this.#activations, l.gate, l.up),
        out: mlp,
      });
      ops.linear({
        x: mlp,
        w: l.down,
        residual: x,
        activations: precision(this.#activations, l.down),
        out: x,
      });
    }
    if (debug) this.stream.label('head');
    if (!head) return null;
    ops.takeRows({ x, rows: batch.logitIndex, out: head.rows });
    ops.norm({ x: head.rows3, weight: this.#norm2, eps, out: head.normed3 });
    return ops.linear({
      x: head.normed,
      w: this.#head,
      activations: precision(this.#activations, this.#head),
      out: head.logits,
    });
  }

  /** Changes when the activations move in memory, which makes recorded graphs stale. */
  get workspaceGeneration(): number {
    return this.#workspaces.generation;
  }

  /** The final norm's weight as [1,D]. */
  get #norm2(): Tensor {
    this.#normView ??= this.#norm.view([1, this.config.hiddenSize]);
    return this.#normView;
  }
  #normView: Tensor | undefined;

  dispose(): void {
    this.#workspaces.dispose();
    for (const l of this.#layers) {
      for (const t of [
        l.attnNorm,
        l.q,
        l.k,
        l.v,
        l.bq,
        l.bk,
        l.bv,
        l.qNorm,
        l.kNorm,
        l.o,
        l.mlpNorm,
        l.gate,
        l.up,
        l.down,
      ])
        t?.dispose();
    }
    if (!this.config.tied) this.#head.dispose();
    for (const t of [this.#embedding, this.#norm, this.#normView, this.#rope]) t?.dispose();
  }
}
