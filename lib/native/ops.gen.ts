// Written by csrc/gen.mjs from ops.def and sampling.def; do not edit.

/** A tensor's number in the native table: slot and generation. */
export type Handle = number;

/** The exports of the op table: validate at once, enqueue on the stream, return. */
export interface NativeOps {
  /**
   * Packs a row-major matrix (its bytes as they lie in a GGUF or safetensors file, in the format that `out` has) into
   * fragment tiles. Values are kept exactly. `permute` > 0 is a head size: rows of each head are reordered
   * 0,2,4,…,1,3,5,… (from interleaved to half rotary pairing); 0 keeps the order.
   *
   * `src:u8[L]^ permute:i32 -> out:w[N,K]`
   */
  pack_weight(stream: number, src: Handle, permute: number, out: Handle): void;
  /**
   * Quantises a matrix of f32, f16 or bf16 into fragment tiles of out's format, for instance while a model is loaded (reference:
   * docstring of quantizeWeight). i8, f8_e4m3: a scale for each output. q4_0, i4_g128: a scale for each 32 or 128 inputs of an output, the one of
   * nine candidates with the least squared error. What is not finite, or too large for an f16 scale, makes the scale NaN. `permute`: as pack_weight's.
   *
   * `src:any[N,K]^ permute:i32 -> out:w[N,K]`
   */
  quantize_weight(stream: number, src: Handle, permute: number, out: Handle): void;
  /**
   * Converts between dense float types, element by element, rounding to nearest even.
   *
   * `src:any[L]^ -> out:any[L]`
   */
  cast(stream: number, src: Handle, out: Handle): void;
  /**
   * out[t] = scale * table[ids[t]] (+ pos[positions[t]]). Ids outside [0,V) are an execution error.
   *
   * `table:w[V,D] ids:i32[T] pos:f32[P,D]? positions:i32[T]? scale:f32 -> out:f[T,D]`
   */
  embed(stream: number, table: Handle, ids: Handle, pos: Handle | null, positions: Handle | null, scale: number, out: Handle): void;
  /**
   * out[r] = x[rows[r]]: gathers rows, for instance those that need logits.
   *
   * `x:f~[T,D] rows:i32[R] -> out:f[R,D]`
   */
  take_rows(stream: number, x: Handle, rows: Handle, out: Handle): void;
  /**
   * Norm over the last dimension of G groups. kind 0: RMSNorm x * rsqrt(mean(x^2) + eps) * weight (Zhang & Sennrich 2019);
   * kind 1: LayerNorm (x - mean) * rsqrt(var + eps) * weight + bias (Ba et al. 2016). The weight is [1,D] or [G,D].
   * rounding: 0 rounds before the weight (Llama), 1 once after it (Gemma); the same thing in f32.
   *
   * `x:f~[T,G,D] weight:f32[W,D]? bias:f32[V,D]? eps:f32 kind:i32 rounding:i32 -> out:f~[T,G,D]`
   */
  norm(stream: number, x: Handle, weight: Handle | null, bias: Handle | null, eps: number, kind: number, rounding: number, out: Handle): void;
  /**
   * out = x + alpha * y
   *
   * `x:f[T,D] y:f[T,D] alpha:f32 -> out:f[T,D]`
   */
  add(stream: number, x: Handle, y: Handle, alpha: number, out: Handle): void;
  /**
   * out = min(max(x, low), high), element by element (queries, keys and values of OLMo and DBRX). NaN becomes low.
   *
   * `x:f[T,D] low:f32 high:f32 -> out:f[T,D]`
   */
  clamp(stream: number, x: Handle, low: number, high: number, out: Handle): void;
  /**
   * out = x · wᵀ (+ bias) (+ residual). activations: 0 rounds x to bf16 (design: exact integers in bf16, fp32 fold),
   * 1 keeps f32. `out` may be `residual`.
   *
   * `x:f~[T,K] w:w[N,K] bias:f32[N]? residual:f[T,N]? activations:i32 -> out:f~[T,N]`
   */
  linear(stream: number, x: Handle, w: Handle, bias: Handle | null, residual: Handle | null, activations: number, out: Handle): void;
  /**
   * First half of a low-rank update (LoRA, Hu et al. 2021): v[t] = a[adapter[t]] · x[t], for rows of several adapters (slots of `a`) in one
   * call; zeros where adapter[t] is -1. `a` is f32, f16 or bf16. Sums are f32 in an order that depends on K alone. Projections that share
   * their input may be stacked along R.
   *
   * `x:f~[T,K] a:any[S,R,K] adapter:i32[T] -> v:f32[T,R]`
   */
  lora_shrink(stream: number, x: Handle, a: Handle, adapter: Handle, v: Handle): void;
  /**
   * Second half: out[t] += scale[s] * (v[t] · b[s]), s = adapter[t]; rows with -1 keep their bits. b is [S,R,N], the transpose of what
   * checkpoints call lora_B. Sums are f32, R ascending.
   *
   * `v:f32~[T,R] b:any[S,R,N] scale:f32[S] adapter:i32[T] out:f~[T,N]!`
   */
  lora_expand(stream: number, v: Handle, b: Handle, scale: Handle, adapter: Handle, out: Handle): void;
  /**
   * Rotates R of the D dimensions of each head in place, from `offset` on. Row p of the table is cos(R/2) then sin(R/2) of
   * position p; rows[t] picks the row (apart from the position: LongRoPE, trees). interleaved: pairs (2i, 2i+1), else (i, i+R/2).
   *
   * `x:f~[T,H,D]! table:f32[P,R] rows:i32[T] offset:i32 interleaved:i32`
   */
  rope(stream: number, x: Handle, table: Handle, rows: Handle, offset: number, interleaved: number): void;
  /**
   * Writes keys and values to their slots (page * S + slot in page) of one layer's pages. A negative slot is skipped. 8-bit pages
   * have scales: an element stands for its value times its scale. f8_e4m3: k_scale and v_scale, one of each head, given; x * (1/scale)
   * is rounded to nearest even, and what exceeds 448 becomes 448. i8: k_scales and v_scales, one of each row, written: the smallest
   * f16 that is not below max|x| / 127, so that x * (1/scale) rounds to -127..127; a row with NaN or infinity gets the scale NaN.
   *
   * `k:f~[T,J,D] v:f~[T,J,E] slots:i32[T] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! k_scale:f32[J]? v_scale:f32[J]? k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!?`
   */
  kv_write(stream: number, k: Handle, v: Handle, slots: Handle, kPages: Handle, vPages: Handle, kScale: Handle | null, vScale: Handle | null, kScales: Handle | null, vScales: Handle | null): void;
  /**
   * Attention over paged keys and values, grouped queries (H a multiple of J). Request b owns rows q_start[b]..q_start[b+1) of
   * q, its last tokens; seq_lens[b] counts them in. Row i of n sits at position seq_lens[b] - n + i and sees what is at or
   * before it; with a tree (anc[t] non-zero: bit j = row j of the request is an ancestor or the row itself) it sees the prefix and
   * its ancestors, at position prefix + popcount - 1. s = scale * q_scale[t] * (q·k); softcap c: c * tanh(s/c); + alibi[h] * j;
   * mask (causal or tree, and window: the last `window` positions, and chunk: the same chunk of positions); softmax with
   * sinks[h] in the denominator. Neutral: window 0, chunk 0, softcap 0. Fixed chunks of 128 tokens folded left to right, so a
   * row's bits depend on nothing but its own context. Scales of 8-bit pages (kv_write) are multiplied with scores and probabilities,
   * never with elements.
   *
   * `q:f~[T,H,D] k_pages:kv~[N,J,S,D] v_pages:kv~[N,J,S,E] block_table:i32[B,M] seq_lens:i32[B] q_start:i32[B+1] anc:i32[T,4]? sinks:f32[H]? alibi:f32[H]? q_scale:f32[T]? scale:f32 window:i32 chunk:i32 softcap:f32 k_scale:f32[J]? v_scale:f32[J]? k_scales:f16~[N,J,S]? v_scales:f16~[N,J,S]? -> out:f[T,H,E]`
   */
  paged_attention(stream: number, q: Handle, kPages: Handle, vPages: Handle, blockTable: Handle, seqLens: Handle, qStart: Handle, anc: Handle | null, sinks: Handle | null, alibi: Handle | null, qScale: Handle | null, scale: number, window: number, chunk: number, softcap: number, kScale: Handle | null, vScale: Handle | null, kScales: Handle | null, vScales: Handle | null, out: Handle): void;
  /**
   * Gated activation: act(gate) * up. kind: 0 silu, 1 gelu_tanh, 2 gelu_erf, 3 relu2, 4 sigmoid, 5 oai (limit, alpha).
   *
   * `gate:f~[T,I] up:f~[T,I] kind:i32 limit:f32 alpha:f32 -> out:f[T,I]`
   */
  glu(stream: number, gate: Handle, up: Handle, kind: number, limit: number, alpha: number, out: Handle): void;
  /**
   * Activation; kinds of glu except oai.
   *
   * `x:f~[T,I] kind:i32 -> out:f[T,I]`
   */
  act(stream: number, x: Handle, kind: number, out: Handle): void;
  /**
   * x = softcap(scale * x) in place; ids >= valid become -inf. Neutral: scale 1, softcap 0, valid V.
   *
   * `x:f[R,V]! scale:f32 softcap:f32 valid:i32`
   */
  logits(stream: number, x: Handle, scale: number, softcap: number, valid: number): void;
  /**
   * One launch for norm + q,k,v projections + biases + q/k norms + rope + KV write; equals the primitives, bit for bit. norm null:
   * x is taken as it is. rope null: no rotation. Rotary pairing is half.
   *
   * `x:f[T,C] norm:f32[C]? eps:f32 wq:w[Q,C] wk:w[KD,C] wv:w[VD,C] bq:f32[Q]? bk:f32[KD]? bv:f32[VD]? q_norm:f32[D]? k_norm:f32[D]? rope:f32[P,R]? rows:i32[T] slots:i32[T] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! activations:i32 k_scale:f32[J]? v_scale:f32[J]? k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!? -> q:f[T,H,D]`
   */
  fused_qkv(stream: number, x: Handle, norm: Handle | null, eps: number, wq: Handle, wk: Handle, wv: Handle, bq: Handle | null, bk: Handle | null, bv: Handle | null, qNorm: Handle | null, kNorm: Handle | null, rope: Handle | null, rows: Handle, slots: Handle, kPages: Handle, vPages: Handle, activations: number, kScale: Handle | null, vScale: Handle | null, kScales: Handle | null, vScales: Handle | null, q: Handle): void;
  /**
   * One launch for norm + gate and up projections + gated activation; equals the primitives, bit for bit.
   *
   * `x:f[T,C] norm:f32[C]? eps:f32 w_gate:w[I,C] w_up:w[I,C] kind:i32 activations:i32 -> out:f[T,I]`
   */
  fused_glu(stream: number, x: Handle, norm: Handle | null, eps: number, wGate: Handle, wUp: Handle, kind: number, activations: number, out: Handle): void;
  /**
   * Draws one token per row of logits. Order: repetition, frequency, presence penalties (counts of counts_row[r]: low 15 bits =
   * times in the output, top bit = in the prompt; row -1: none), logit bias (bias_start[r]..bias_start[r+1)), token mask (bit set =
   * allowed), temperature (0: greedy), min-p, top-k, top-p, then argmax of log p + Gumbel noise. Noise is Philox4x32-10
   * (Salmon et al. 2011) keyed by the seed (keys[r] = seed low, seed high, position, 0) and counted by (token, position), so a draw does not
   * depend on the batch. Ties: the lowest id. logprob is of the raw logits; top_ids/top_logprobs are the best K raw tokens.
   * Columns: csrc/sampling.def.
   *
   * `logits:f32~[R,V] columns:f32[R,C] keys:i32[R,4] counts:u16[U,V]? counts_row:i32[R]? bias_start:i32[R+1]? bias_ids:i32[L]? bias_values:f32[L]? mask:i32[R,W]? -> ids:i32[R] logprobs:f32[R]? top_ids:i32[R,K]? top_logprobs:f32[R,K]?`
   */
  sample(stream: number, logits: Handle, columns: Handle, keys: Handle, counts: Handle | null, countsRow: Handle | null, biasStart: Handle | null, biasIds: Handle | null, biasValues: Handle | null, mask: Handle | null, ids: Handle, logprobs: Handle | null, topIds: Handle | null, topLogprobs: Handle | null): void;
  /**
   * What a verification step needs of trees with num_nodes[b] of Q nodes each, node i standing in cache index base[b] + i of its
   * request: anc (the node and its ancestors, as paged_attention reads them), rows (the position, base + depth), slots (page * page_size +
   * offset), seq_lens (base + Q). Parents come before children, parents[b][0] = -1. Nodes from num_nodes on are there to keep the shape
   * of a recorded step: children of the root that nobody else sees. Q is at most 128; the page table covers base + Q tokens.
   *
   * `parents:i32[B,Q] num_nodes:i32[B] base:i32[B] block_table:i32[B,M] page_size:i32 -> anc:i32[B,Q,4] rows:i32[B,Q] slots:i32[B,Q] seq_lens:i32[B]`
   */
  tree_prepare(stream: number, parents: Handle, numNodes: Handle, base: Handle, blockTable: Handle, pageSize: number, anc: Handle, rows: Handle, slots: Handle, seqLens: Handle): void;
  /**
   * Walks each tree from its root (node 0) to the child whose draft token equals what was sampled at the parent; the first miss is
   * the bonus token. num_nodes[b] nodes of row b are real; parents[b][0] = -1, parents come before children. path holds the accepted
   * nodes (root included, num_accepted of them), bonus the sampled token at the last one.
   *
   * `draft:i32[B,Q] parents:i32[B,Q] num_nodes:i32[B] sampled:i32[B,Q] -> path:i32[B,Q] num_accepted:i32[B] bonus:i32[B]`
   */
  tree_accept(stream: number, draft: Handle, parents: Handle, numNodes: Handle, sampled: Handle, path: Handle, numAccepted: Handle, bonus: Handle): void;
  /**
   * Moves the cached rows of accepted tree nodes together: token base[b] + d takes the row of token base[b] + path[b][d], for d
   * ascending below num[b]. path[b][d] >= d, ascending, so it works in place. Scales of i8 pages move with their rows.
   *
   * `block_table:i32[B,M] base:i32[B] path:i32[B,Q] num:i32[B] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!?`
   */
  kv_compact(stream: number, blockTable: Handle, base: Handle, path: Handle, num: Handle, kPages: Handle, vPages: Handle, kScales: Handle | null, vScales: Handle | null): void;
  /**
   * Copies whole pages: dst[i] becomes a copy of src[i] (copy on write of a forked sequence's last page), scales of i8 pages included.
   *
   * `src:i32[L] dst:i32[L] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!?`
   */
  kv_copy_pages(stream: number, src: Handle, dst: Handle, kPages: Handle, vPages: Handle, kScales: Handle | null, vScales: Handle | null): void;
}

/** The table as data. */
export const OPS: readonly { name: keyof NativeOps; signature: string }[] = [
  { name: 'pack_weight', signature: 'src:u8[L]^ permute:i32 -> out:w[N,K]' },
  { name: 'quantize_weight', signature: 'src:any[N,K]^ permute:i32 -> out:w[N,K]' },
  { name: 'cast', signature: 'src:any[L]^ -> out:any[L]' },
  { name: 'embed', signature: 'table:w[V,D] ids:i32[T] pos:f32[P,D]? positions:i32[T]? scale:f32 -> out:f[T,D]' },
  { name: 'take_rows', signature: 'x:f~[T,D] rows:i32[R] -> out:f[R,D]' },
  { name: 'norm', signature: 'x:f~[T,G,D] weight:f32[W,D]? bias:f32[V,D]? eps:f32 kind:i32 rounding:i32 -> out:f~[T,G,D]' },
  { name: 'add', signature: 'x:f[T,D] y:f[T,D] alpha:f32 -> out:f[T,D]' },
  { name: 'clamp', signature: 'x:f[T,D] low:f32 high:f32 -> out:f[T,D]' },
  { name: 'linear', signature: 'x:f~[T,K] w:w[N,K] bias:f32[N]? residual:f[T,N]? activations:i32 -> out:f~[T,N]' },
  { name: 'lora_shrink', signature: 'x:f~[T,K] a:any[S,R,K] adapter:i32[T] -> v:f32[T,R]' },
  { name: 'lora_expand', signature: 'v:f32~[T,R] b:any[S,R,N] scale:f32[S] adapter:i32[T] out:f~[T,N]!' },
  { name: 'rope', signature: 'x:f~[T,H,D]! table:f32[P,R] rows:i32[T] offset:i32 interleaved:i32' },
  { name: 'kv_write', signature: 'k:f~[T,J,D] v:f~[T,J,E] slots:i32[T] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! k_scale:f32[J]? v_scale:f32[J]? k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!?' },
  { name: 'paged_attention', signature: 'q:f~[T,H,D] k_pages:kv~[N,J,S,D] v_pages:kv~[N,J,S,E] block_table:i32[B,M] seq_lens:i32[B] q_start:i32[B+1] anc:i32[T,4]? sinks:f32[H]? alibi:f32[H]? q_scale:f32[T]? scale:f32 window:i32 chunk:i32 softcap:f32 k_scale:f32[J]? v_scale:f32[J]? k_scales:f16~[N,J,S]? v_scales:f16~[N,J,S]? -> out:f[T,H,E]' },
  { name: 'glu', signature: 'gate:f~[T,I] up:f~[T,I] kind:i32 limit:f32 alpha:f32 -> out:f[T,I]' },
  { name: 'act', signature: 'x:f~[T,I] kind:i32 -> out:f[T,I]' },
  { name: 'logits', signature: 'x:f[R,V]! scale:f32 softcap:f32 valid:i32' },
  { name: 'fused_qkv', signature: 'x:f[T,C] norm:f32[C]? eps:f32 wq:w[Q,C] wk:w[KD,C] wv:w[VD,C] bq:f32[Q]? bk:f32[KD]? bv:f32[VD]? q_norm:f32[D]? k_norm:f32[D]? rope:f32[P,R]? rows:i32[T] slots:i32[T] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! activations:i32 k_scale:f32[J]? v_scale:f32[J]? k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!? -> q:f[T,H,D]' },
  { name: 'fused_glu', signature: 'x:f[T,C] norm:f32[C]? eps:f32 w_gate:w[I,C] w_up:w[I,C] kind:i32 activations:i32 -> out:f[T,I]' },
  { name: 'sample', signature: 'logits:f32~[R,V] columns:f32[R,C] keys:i32[R,4] counts:u16[U,V]? counts_row:i32[R]? bias_start:i32[R+1]? bias_ids:i32[L]? bias_values:f32[L]? mask:i32[R,W]? -> ids:i32[R] logprobs:f32[R]? top_ids:i32[R,K]? top_logprobs:f32[R,K]?' },
  { name: 'tree_prepare', signature: 'parents:i32[B,Q] num_nodes:i32[B] base:i32[B] block_table:i32[B,M] page_size:i32 -> anc:i32[B,Q,4] rows:i32[B,Q] slots:i32[B,Q] seq_lens:i32[B]' },
  { name: 'tree_accept', signature: 'draft:i32[B,Q] parents:i32[B,Q] num_nodes:i32[B] sampled:i32[B,Q] -> path:i32[B,Q] num_accepted:i32[B] bonus:i32[B]' },
  { name: 'kv_compact', signature: 'block_table:i32[B,M] base:i32[B] path:i32[B,Q] num:i32[B] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!?' },
  { name: 'kv_copy_pages', signature: 'src:i32[L] dst:i32[L] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!?' },
];

/** The columns of `sample`, in order. */
export const SAMPLING_COLUMNS = [
  { name: 'temperature', default: 1, min: 0, max: 100, doc: 'Softmax temperature; 0 takes the most likely token.' },
  { name: 'topK', default: 0, min: 0, max: 2147483647, doc: 'Keeps the k most likely tokens; 0 keeps all.' },
  { name: 'topP', default: 1, min: 0, max: 1, doc: 'Keeps the smallest set of most likely tokens whose probability reaches p (nucleus sampling).' },
  { name: 'minP', default: 0, min: 0, max: 1, doc: 'Drops tokens less likely than min_p times the most likely one.' },
  { name: 'repetitionPenalty', default: 1, min: 0.01, max: 100, doc: 'Divides positive and multiplies negative logits of tokens seen in prompt or output.' },
  { name: 'frequencyPenalty', default: 0, min: -100, max: 100, doc: 'Subtracted from a logit once per occurrence in the output.' },
  { name: 'presencePenalty', default: 0, min: -100, max: 100, doc: 'Subtracted from the logit of every token that occurs in the output.' },
] as const;
