// Tensors and weights with contents: memory that was never written is one shared page of zeros, and reads of it cost nothing.
import { DTYPE_BYTES, packWeight, quantizeWeight, Tensor } from '../dist/ops/index.js';

/** Bytes of 32 values of each weight format. */
const BLOCK_BYTES = {
  f32: 128,
  f16: 64,
  bf16: 64,
  q8_0: 34,
  q4_0: 18,
  q4_1: 20,
  i8: 32,
  f8_e4m3: 32,
  i4_g128: 16.5,
};
export const FORMATS = /** @type {const} */ ([
  'f32',
  'bf16',
  'f16',
  'q8_0',
  'q4_0',
  'q4_1',
  'i8',
  'f8_e4m3',
  'i4_g128',
]);
/** Formats that no file has: made of bf16. */
export const isMade = (format) => ['i8', 'f8_e4m3', 'i4_g128'].includes(format);
/** The format that a source of the format has. */
export const sourceFormat = (format) => (isMade(format) ? 'bf16' : format);

export function blockBytes(format) {
  return BLOCK_BYTES[format];
}

// A fixed generator: two runs measure the same values.
let state = 12345;
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}

/** Small values of either sign, none of them denormal; f16 and bf16 as bits. */
function values(dtype, n) {
  // i8: whole numbers; f8_e4m3: exponents around 1, as the other types have them.
  if (dtype === 'i8') return Int8Array.from({ length: n }, () => random() * 255 - 127);
  if (dtype === 'f8_e4m3')
    return Uint8Array.from({ length: n }, () => (random() < 0.5 ? 128 : 0) + 40 + random() * 24);
  const f = Float32Array.from({ length: n }, () => (random() < 0.5 ? -1 : 1) * (0.25 + random()));
  if (dtype === 'f32') return f;
  const bits = new Uint32Array(f.buffer);
  if (dtype === 'bf16') return Uint16Array.from(bits, (b) => b >>> 16);
  // f16: the exponent is one of 2^-2 … 2^0, so that moving the bias is all there is to do.
  return Uint16Array.from(
    bits,
    (b) => ((b >>> 16) & 0x8000) | ((((b >>> 23) & 255) - 112) << 10) | ((b >>> 13) & 1023),
  );
}

/** Repeats a piece of data to a length. */
function tile(piece, length) {
  const out = new piece.constructor(length);
  for (let at = 0; at < length; at += piece.length) out.set(piece.subarray(0, length - at), at);
  return out;
}

/** A tensor of random values. */
export function filled(stream, dtype, shape) {
  const n = shape.reduce((a, b) => a * b, 1);
  // Written piece by piece: the copy that a write holds until it has run stays small.
  const t = Tensor.empty(stream, dtype, shape);
  const step = Math.min(n, 2 ** 22);
  const data = tile(values(dtype, Math.min(n, 4099)), step);
  for (let at = 0; at < n; at += step) {
    const count = Math.min(step, n - at);
    const view = t.view([count], { offset: at });
    view.write(data.subarray(0, count));
    view.dispose();
  }
  return t;
}

function integers(stream, shape, values) {
  return Tensor.from(stream, 'i32', shape, Int32Array.from(values));
}

/** The bytes of a matrix [N,K] as they lie in a file. */
export function randomMatrixBytes(format, [n, k]) {
  const total = (n * k * BLOCK_BYTES[format]) / 32;
  if (format === 'f32' || format === 'f16' || format === 'bf16') {
    const v = values(format, 4099);
    return tile(v, total / DTYPE_BYTES[format]);
  }
  const size = BLOCK_BYTES[format];
  const blocks = new Uint8Array(size * 509).map(() => random() * 256);
  const view = new DataView(blocks.buffer);
  for (let b = 0; b < 509; b++) {
    view.setUint16(b * size, 0x2000 + (b & 255), true); // scale: about 2^-7
    if (format === 'q4_1') view.setUint16(b * size + 2, 0xac00 + (b & 255), true); // minimum: about -2^-4
  }
  return tile(blocks, total);
}

/** A weight of u8 bytes in the source format. */
export function makeWeight(bytes, format, [n, k], permute = 0) {
  if (!isMade(format)) return packWeight(bytes, format, [n, k], permute);
  const floats = bytes.view([n, k], { dtype: 'bf16' });
  try {
    return quantizeWeight(floats, format, permute);
  } finally {
    floats.dispose();
  }
}

/** A packed weight of random values. */
export function randomWeight(stream, format, shape) {
  const bytes = randomMatrixBytes(sourceFormat(format), shape);
  const src = Tensor.from(
    stream,
    'u8',
    [bytes.byteLength],
    new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength),
  );
  const w = makeWeight(src, format, shape);
  src.dispose();
  return w;
}

/** Tokens of a cache page. */
export const PAGE = 32;
/** Copies of weights and pages go round in this much memory: several times what a last-level cache keeps for us. */
const COLD = 128 * 2 ** 20;

/** The tensors of one case, disposed together. */
export class Scope {
  owned = [];
  constructor(stream) {
    this.stream = stream;
  }
  keep(t) {
    this.owned.push(t);
    return t;
  }
  f32(...shape) {
    return this.keep(filled(this.stream, 'f32', shape));
  }
  of(dtype, ...shape) {
    return this.keep(filled(this.stream, dtype, shape));
  }
  i32(shape, values) {
    return this.keep(integers(this.stream, shape, values));
  }
  range(n, step = 1) {
    return this.i32(
      [n],
      Array.from({ length: n }, (_, i) => i * step),
    );
  }
  weight(format, n, k) {
    return this.keep(randomWeight(this.stream, format, [n, k]));
  }
  /** As many results of `make` as fill COLD bytes. */
  copies(bytes, make) {
    const n = Math.max(1, Math.min(64, Math.ceil(COLD / bytes)));
    return Array.from({ length: n }, make);
  }
  /** Pages of one layer for `tokens` tokens: keys and values interleaved, as the cache lays them out. */
  pages(m, tokens, dtype = 'f16') {
    const n = Math.ceil(tokens / PAGE);
    const [j, d] = [m.kvHeads, m.headDim];
    const memory = this.of(dtype, n, 2, j, PAGE * d);
    const options = { strides: [2 * j * PAGE * d, PAGE * d, d, 1] };
    return {
      k: this.keep(memory.view([n, j, PAGE, d], options)),
      v: this.keep(memory.view([n, j, PAGE, d], { ...options, offset: j * PAGE * d })),
      ...(dtype === 'f8_e4m3' ? this.headScales(j) : dtype === 'i8' ? this.rowScales(n, j) : {}),
    };
  }
  /** Scales of f8_e4m3 pages, one a head. */
  headScales(j) {
    const one = this.keep(Tensor.from(this.stream, 'f32', [j], new Float32Array(j).fill(1)));
    return { kScale: one, vScale: one };
  }
  /** Scales of i8 pages, one a row: 1/64 everywhere. */
  rowScales(n, j) {
    const plane = this.keep(
      Tensor.from(this.stream, 'f16', [n, 2, j, PAGE], new Uint16Array(n * 2 * j * PAGE).fill(0x2400)),
    );
    const options = { strides: [2 * j * PAGE, PAGE, 1] };
    return {
      kScales: this.keep(plane.view([n, j, PAGE], options)),
      vScales: this.keep(plane.view([n, j, PAGE], { ...options, offset: j * PAGE })),
    };
  }
  dispose = () => {
    for (const t of this.owned) t.dispose();
  };
}
