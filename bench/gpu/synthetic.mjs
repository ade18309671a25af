// Models of a given shape with random weights, packed on the device itself: no file, and the host sends one small block.

import { LlamaModel } from '../../dist/internals.js';
import { Tensor } from '../../dist/ops/index.js';
import { blockBytes, makeWeight, randomMatrixBytes, sourceFormat } from '../data.mjs';

const shared = {
  family: 'llama',
  maxPositions: 131072,
  normEps: 1e-5,
  qkvBias: false,
  qkNorm: false,
  permutedHeads: false,
  bosId: 1,
  eosIds: [2],
};

/** Shapes of Llama 3. */
export const SHAPES = {
  '1B': {
    ...shared,
    vocabSize: 128256,
    hiddenSize: 2048,
    intermediateSize: 8192,
    heads: 32,
    kvHeads: 8,
    headDim: 64,
    tied: true,
    layerCount: 16,
  },
  '8B': {
    ...shared,
    vocabSize: 128256,
    hiddenSize: 4096,
    intermediateSize: 14336,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    tied: false,
    layerCount: 32,
  },
  // For trying the benchmark itself.
  tiny: {
    ...shared,
    vocabSize: 1024,
    hiddenSize: 128,
    intermediateSize: 256,
    heads: 4,
    kvHeads: 2,
    headDim: 32,
    tied: true,
    layerCount: 2,
  },
};

export function configOf(shape) {
  const { layerCount, ...config } = SHAPES[shape];
  return {
    ...config,
    rope: { theta: 500000, dims: config.headDim, scaling: { type: 'none' } },
    layers: Array.from({ length: layerCount }, () => ({ window: 0, rope: true })),
  };
}

export const bytesOf = (format, n, k) => (n * k * blockBytes(format)) / 32;

/** Bytes of the weights that a decoded token reads: everything but an embedding that is no head. */
export function tokenBytes(c, format) {
  const q = c.heads * c.headDim;
  const kv = c.kvHeads * c.headDim;
  const layer = c.hiddenSize * (2 * q + 2 * kv) + 3 * c.hiddenSize * c.intermediateSize;
  return bytesOf(format, c.layers.length * (layer / c.hiddenSize) + c.vocabSize, c.hiddenSize);
}

/** What LlamaModel.load wants of a WeightLoader. */
class RandomLoader {
  #stream;
  #format;
  #source;
  #matrices = 0;

  constructor(stream, format, largest) {
    this.#stream = stream;
    this.#format = format;
    // A power of two of whole blocks, repeated; one such block is all that crosses the bus at a time.
    const block = randomMatrixBytes(sourceFormat(format), [8192, 4096]);
    const bytes = new Uint8Array(block.buffer, block.byteOffset, block.byteLength);
    this.#source = Tensor.empty(stream, 'u8', [largest]);
    for (let at = 0; at < largest; at += bytes.length) {
      const n = Math.min(bytes.length, largest - at);
      const view = this.#source.view([n], { offset: at });
      view.write(bytes.subarray(0, n));
      view.dispose();
    }
  }

  matrix(_name, [n, k], permute = 0) {
    const from = sourceFormat(this.#format);
    const bytes = bytesOf(from, n, k);
    // Other values for every matrix: the source is read from another block on.
    const room = Math.floor((this.#source.size - bytes) / (16 * blockBytes(from)));
    const offset = room > 0 ? ((this.#matrices++ * 7919) % room) * 16 * blockBytes(from) : 0;
    const view = this.#source.view([bytes], { offset });
    try {
      return makeWeight(view, this.#format, [n, k], permute);
    } finally {
      view.dispose();
    }
  }

  vector(_name, size) {
    return Tensor.from(this.#stream, 'f32', [size], new Float32Array(size).fill(1));
  }

  async flush() {
    await this.#stream.sync();
  }

  dispose() {
    this.#source.dispose();
  }
}

/** A model of the shape, on the stream. */
export async function syntheticModel(stream, shape, format, positions) {
  const config = configOf(shape);
  const largest = Math.max(
    bytesOf(sourceFormat(format), config.vocabSize, config.hiddenSize),
    bytesOf(sourceFormat(format), config.intermediateSize, config.hiddenSize),
  );
  const loader = new RandomLoader(stream, format, largest);
  try {
    return await LlamaModel.load(stream, config, loader, { activations: 'auto', positions, totalBytes: 0 });
  } finally {
    await stream.sync();
    loader.dispose();
  }
}
