// Checkpoints of known shapes with random weights, for speed where no real file of that size is at hand: a GGUF in bf16 that every engine loads.
//   node bench/synthetic.mjs SHAPE OUT.gguf
// Norms are 1, matrices Gaussian with the deviation 1/sqrt(inputs), so activations keep their size through the layers. The text means nothing.
import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { header, padding, TYPES } from './gguf-write.mjs';

export const SHAPES = {
  '1B': { name: 'Llama-3.2-1B', hidden: 2048, inner: 8192, layers: 16, heads: 32, kvHeads: 8, vocab: 128256 },
  // For trying the benchmark itself.
  tiny: { name: 'tiny', hidden: 256, inner: 512, layers: 2, heads: 4, kvHeads: 2, vocab: 32768 },
};

/** Byte-level BPE has a printable character for each byte: GPT-2's table. */
function byteTokens() {
  const printable = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
}

function metadata(shape) {
  const { hidden, inner, layers, heads, kvHeads, vocab, name } = SHAPES[shape];
  const bytes = byteTokens();
  // A word of two letters for one merge; the rest are tokens that no text becomes, only ids.
  const tokens = [...bytes, 'th', '<s>', '</s>'];
  const types = tokens.map((t) => (t.startsWith('<') ? 3 : 1));
  while (tokens.length < vocab) {
    tokens.push(`word${tokens.length}`);
    types.push(1);
  }
  const llama = Object.entries({
    context_length: { u32: 131072 },
    embedding_length: { u32: hidden },
    block_count: { u32: layers },
    feed_forward_length: { u32: inner },
    'attention.head_count': { u32: heads },
    'attention.head_count_kv': { u32: kvHeads },
    'attention.layer_norm_rms_epsilon': { f32: 1e-5 },
    'rope.dimension_count': { u32: hidden / heads },
    'rope.freq_base': { f32: 500000 },
    vocab_size: { u32: vocab },
  });
  return {
    'general.architecture': { string: 'llama' },
    'general.name': { string: `${name} shape, random weights` },
    'general.file_type': { u32: 32 },
    ...Object.fromEntries(llama.map(([key, v]) => [`llama.${key}`, v])),
    'tokenizer.ggml.model': { string: 'gpt2' },
    'tokenizer.ggml.pre': { string: 'smollm' },
    'tokenizer.ggml.tokens': { strings: tokens },
    'tokenizer.ggml.token_type': { i32s: types },
    'tokenizer.ggml.merges': { strings: ['t h'] },
    'tokenizer.ggml.bos_token_id': { u32: 257 },
    'tokenizer.ggml.eos_token_id': { u32: 258 },
  };
}

function tensorList(shape) {
  const { hidden, inner, layers, heads, kvHeads, vocab } = SHAPES[shape];
  const kv = (hidden / heads) * kvHeads;
  const matrix = (name, n, k) => ({ name, shape: [n, k], type: TYPES.bf16, bytes: 2 * n * k });
  const norm = (name) => ({ name, shape: [hidden], type: TYPES.f32, bytes: 4 * hidden });
  const layer = (i) => [
    norm(`blk.${i}.attn_norm.weight`),
    matrix(`blk.${i}.attn_q.weight`, hidden, hidden),
    matrix(`blk.${i}.attn_k.weight`, kv, hidden),
    matrix(`blk.${i}.attn_v.weight`, kv, hidden),
    matrix(`blk.${i}.attn_output.weight`, hidden, hidden),
    norm(`blk.${i}.ffn_norm.weight`),
    matrix(`blk.${i}.ffn_gate.weight`, inner, hidden),
    matrix(`blk.${i}.ffn_up.weight`, inner, hidden),
    matrix(`blk.${i}.ffn_down.weight`, hidden, inner),
  ];
  return [
    matrix('token_embd.weight', vocab, hidden), // the head too
    norm('output_norm.weight'),
    ...Array.from({ length: layers }, (_, i) => layer(i)).flat(),
  ];
}

/** Gaussian bf16 with deviation 1, from a fixed generator (Box and Muller). */
function gaussians(count) {
  let state = 12345;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 1) / 2 ** 32;
  };
  const f = Float32Array.from({ length: count }, () => {
    return Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  });
  return f;
}

/** bf16 of the values times a factor, to nearest even. */
function rounded(values, factor) {
  const bits = new Uint32Array(Float32Array.from(values, (v) => v * factor).buffer);
  return Uint16Array.from(bits, (b) => (b + 0x7fff + ((b >>> 16) & 1)) >>> 16);
}

/** Writes a checkpoint of the shape. @param {keyof typeof SHAPES} shape */
export async function writeSynthetic(shape, path) {
  const tensors = tensorList(shape);
  const file = await open(path, 'w');
  // A prime number of values, so that rows and columns never repeat in step.
  const base = gaussians(1048573);
  const scaled = new Map();
  try {
    await file.write(header(metadata(shape), tensors));
    let at = 0;
    for (const t of tensors) {
      const count = t.shape.reduce((a, b) => a * b, 1);
      if (t.type === TYPES.f32) {
        await file.write(Buffer.from(new Float32Array(count).fill(1).buffer));
      } else {
        const k = t.shape[1];
        if (!scaled.has(k)) scaled.set(k, rounded(base, 1 / Math.sqrt(k)));
        const piece = scaled.get(k);
        for (let done = 0; done < count; ) {
          const n = Math.min(count - done, piece.length - at);
          await file.write(new Uint8Array(piece.buffer, 2 * at, 2 * n));
          at = (at + n) % piece.length;
          done += n;
        }
      }
      await file.write(padding(t.bytes));
    }
  } finally {
    await file.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [shape, path] = process.argv.slice(2);
  if (!path || !SHAPES[shape]) {
    console.error(`usage: node bench/synthetic.mjs ${Object.keys(SHAPES).join('|')} OUT.gguf`);
    process.exit(2);
  }
  await writeSynthetic(shape, path);
}
