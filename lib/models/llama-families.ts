import type { ModelFamily } from './registry.ts';

/** Llama 2, 3, 3.1, 3.2, TinyLlama, SmolLM2 and whatever else publishes itself as Llama. */
export const llama: ModelFamily = {
  name: 'llama',
  architectures: ['LlamaForCausalLM'],
  gguf: ['llama'],
  hf: { family: 'llama' },
  // A GGUF of Mistral says "llama" too; its window comes with the metadata.
  ggufDialect: { family: 'llama', permuted: true },
};

/** Mistral 7B: every layer slides when the file has a window. */
export const mistral: ModelFamily = {
  name: 'mistral',
  architectures: ['MistralForCausalLM'],
  gguf: [],
  hf: { family: 'mistral', slides: (f) => f.number('sliding_window', 0) > 0 },
  ggufDialect: { family: 'mistral', permuted: true },
};

/** Ministral 8B: Mistral whose `layer_types` say which layers slide; its GGUF says "llama". */
export const ministral: ModelFamily = {
  name: 'ministral',
  architectures: ['MinistralForCausalLM'],
  gguf: [],
  hf: { family: 'ministral', slides: (f) => f.number('sliding_window', 0) > 0 },
  ggufDialect: { family: 'ministral', permuted: true },
};

/** Qwen2 and Qwen2.5: biases on q, k, v. Layers from `max_window_layers` on slide where `use_sliding_window` says so. */
export const qwen2: ModelFamily = {
  name: 'qwen2',
  architectures: ['Qwen2ForCausalLM'],
  gguf: ['qwen2'],
  hf: {
    family: 'qwen2',
    qkvBias: true,
    slides: (f, layer) =>
      f.boolean('use_sliding_window', false) && layer >= f.number('max_window_layers', 28),
  },
  ggufDialect: { family: 'qwen2', qkvBias: true },
};

/** Qwen3: norms on the heads of q and k, head size apart from the hidden size. */
export const qwen3: ModelFamily = {
  name: 'qwen3',
  architectures: ['Qwen3ForCausalLM'],
  gguf: ['qwen3'],
  hf: {
    family: 'qwen3',
    qkNorm: true,
    slides: (f, layer) =>
      f.boolean('use_sliding_window', false) && layer >= f.number('max_window_layers', 28),
  },
  ggufDialect: { family: 'qwen3', qkNorm: true },
};

/** SmolLM3: every fourth layer has no rotary embedding; `no_rope_layers[i] = 1` means that rope *is* used. */
export const smollm3: ModelFamily = {
  name: 'smollm3',
  architectures: ['SmolLM3ForCausalLM'],
  gguf: ['smollm3'],
  hf: {
    family: 'smollm3',
    theta: 2_000_000,
    tied: true,
    slides: (f) => f.boolean('use_sliding_window', false) && f.number('sliding_window', 0) > 0,
    rotates: (f, layer) => {
      const list = f.array('no_rope_layers');
      return list ? list[layer] === 1 : (layer + 1) % f.number('no_rope_layer_interval', 4) !== 0;
    },
  },
  ggufDialect: { family: 'smollm3', permuted: true, rotates: (layer) => (layer + 1) % 4 !== 0 },
};
