// ggml's block formats, element by element, as its sources define them. What the packed tiles must mean is computed from this.
import { f16Bits, fromF16 } from '../helpers/floats.ts';
import type { Random } from '../helpers/random.ts';

export const BLOCK_FORMATS = [
  'q8_0',
  'q4_0',
  'q4_1',
  'q5_0',
  'q5_1',
  'q2_k',
  'q3_k',
  'q4_k',
  'q5_k',
  'q6_k',
  'iq4_nl',
  'iq4_xs',
  'mxfp4',
] as const;
export type BlockFormat = (typeof BLOCK_FORMATS)[number];

/** The value of input k is d * (q + zero) + m: `q` the code, or the number that it stands for in a table. */
export interface Element {
  q: number;
  zero: number;
  d: number;
  m: number;
}

interface Layout {
  /** inputs of a block, its bytes, and the inputs that share d and m */
  block: number;
  bytes: number;
  shared: number;
  /** where halves lie that must be plausible: d, or d and a minimum */
  halves: number[];
  element(at: (byte: number) => number, half: (byte: number) => number, k: number): Element;
}

const IQ4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const FP4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6];
const bits = (byte: number, from: number, count: number) => (byte >> from) & ((1 << count) - 1);
const signed = (byte: number) => (byte << 24) >> 24;
/** Nibble of input k of 32 in 16 bytes. */
const nibble = (at: (byte: number) => number, start: number, k: number) =>
  bits(at(start + (k % 16)), k < 16 ? 0 : 4, 4);
/** The 6-bit scale and minimum of part j of Q4_K and Q5_K: twelve bytes from byte 4 on. */
function sixBits(at: (byte: number) => number, j: number): [scale: number, min: number] {
  if (j < 4) return [bits(at(4 + j), 0, 6), bits(at(8 + j), 0, 6)];
  return [bits(at(8 + j), 0, 4) + 16 * bits(at(j), 6, 2), bits(at(8 + j), 4, 4) + 16 * bits(at(4 + j), 6, 2)];
}

export const LAYOUTS: Record<BlockFormat, Layout> = {
  q8_0: {
    block: 32,
    bytes: 34,
    shared: 32,
    halves: [0],
    element: (at, half, k) => ({ q: signed(at(2 + k)), zero: 0, d: half(0), m: 0 }),
  },
  q4_0: {
    block: 32,
    bytes: 18,
    shared: 32,
    halves: [0],
    element: (at, half, k) => ({ q: nibble(at, 2, k), zero: -8, d: half(0), m: 0 }),
  },
  q4_1: {
    block: 32,
    bytes: 20,
    shared: 32,
    halves: [0, 2],
    element: (at, half, k) => ({ q: nibble(at, 4, k), zero: 0, d: half(0), m: half(2) }),
  },
  q5_0: {
    block: 32,
    bytes: 22,
    shared: 32,
    halves: [0],
    element: (at, half, k) => {
      const q = nibble(at, 6, k) + 16 * bits(at(2 + (k >> 3)), k % 8, 1);
      return { q, zero: -16, d: half(0), m: 0 };
    },
  },
  q5_1: {
    block: 32,
    bytes: 24,
    shared: 32,
    halves: [0, 2],
    element: (at, half, k) => {
      const q = nibble(at, 8, k) + 16 * bits(at(4 + (k >> 3)), k % 8, 1);
      return { q, zero: 0, d: half(0), m: half(2) };
    },
  },
  q2_k: {
    block: 256,
    bytes: 84,
    shared: 16,
    halves: [80, 82],
    element: (at, half, k) => {
      const scale = at(k >> 4);
      const q = bits(at(16 + 32 * (k >> 7) + (k % 32)), 2 * ((k >> 5) % 4), 2);
      return { q, zero: 0, d: half(80) * (scale & 15), m: -half(82) * (scale >> 4) };
    },
  },
  q3_k: {
    block: 256,
    bytes: 110,
    shared: 16,
    halves: [108],
    element: (at, half, k) => {
      const i = k >> 4;
      const scale = bits(at(96 + (i % 8)), i < 8 ? 0 : 4, 4) + 16 * bits(at(104 + (i % 4)), 2 * (i >> 2), 2);
      const low = bits(at(32 + 32 * (k >> 7) + (k % 32)), 2 * ((k >> 5) % 4), 2);
      return { q: low + 4 * bits(at(k % 32), k >> 5, 1), zero: -4, d: half(108) * (scale - 32), m: 0 };
    },
  },
  q4_k: {
    block: 256,
    bytes: 144,
    shared: 32,
    halves: [0, 2],
    element: (at, half, k) => {
      const [scale, min] = sixBits(at, k >> 5);
      const q = bits(at(16 + 32 * (k >> 6) + (k % 32)), (k >> 5) % 2 ? 4 : 0, 4);
      return { q, zero: 0, d: half(0) * scale, m: -half(2) * min };
    },
  },
  q5_k: {
    block: 256,
    bytes: 176,
    shared: 32,
    halves: [0, 2],
    element: (at, half, k) => {
      const [scale, min] = sixBits(at, k >> 5);
      const low = bits(at(48 + 32 * (k >> 6) + (k % 32)), (k >> 5) % 2 ? 4 : 0, 4);
      const q = low + 16 * bits(at(16 + (k % 32)), k >> 5, 1);
      return { q, zero: 0, d: half(0) * scale, m: -half(2) * min };
    },
  },
  q6_k: {
    block: 256,
    bytes: 210,
    shared: 16,
    halves: [208],
    element: (at, half, k) => {
      const [group, part, l] = [k >> 7, (k >> 5) % 4, k % 32];
      const low = bits(at(64 * group + 32 * (part % 2) + l), part < 2 ? 0 : 4, 4);
      const q = low + 16 * bits(at(128 + 32 * group + l), 2 * part, 2);
      return { q, zero: -32, d: half(208) * signed(at(192 + (k >> 4))), m: 0 };
    },
  },
  iq4_nl: {
    block: 32,
    bytes: 18,
    shared: 32,
    halves: [0],
    element: (at, half, k) => ({ q: IQ4[nibble(at, 2, k)]!, zero: 0, d: half(0), m: 0 }),
  },
  iq4_xs: {
    block: 256,
    bytes: 136,
    shared: 32,
    halves: [0],
    element: (at, half, k) => {
      const j = k >> 5;
      const scale = bits(at(4 + (j >> 1)), j % 2 ? 4 : 0, 4) + 16 * bits(at(2 + (j >> 2)), 2 * (j % 4), 2);
      return { q: IQ4[nibble(at, 8 + 16 * j, k % 32)]!, zero: 0, d: half(0) * (scale - 32), m: 0 };
    },
  },
  mxfp4: {
    block: 32,
    bytes: 17,
    shared: 32,
    halves: [],
    element: (at, _, k) => ({ q: FP4[nibble(at, 1, k)]!, zero: 0, d: 2 ** (at(0) - 127), m: 0 }),
  },
};

/** Every element of a file's bytes. */
export function elements(format: BlockFormat, bytes: Uint8Array): Element[] {
  const layout = LAYOUTS[format];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: (bytes.length / layout.bytes) * layout.block }, (_, i) => {
    const base = Math.floor(i / layout.block) * layout.bytes;
    const at = (byte: number) => bytes[base + byte]!;
    return layout.element(at, (byte) => fromF16(view.getUint16(base + byte, true)), i % layout.block);
  });
}

/** Blocks of random bytes, with scales that keep values of the size of 1. */
export function randomBlocks(random: Random, format: BlockFormat, count: number): Uint8Array {
  const { bytes, block, halves } = LAYOUTS[format];
  const data = Uint8Array.from({ length: count * bytes }, () => random.integer(0, 256));
  const view = new DataView(data.buffer);
  const size = block === 32 ? 1 : 1 / 32;
  for (let b = 0; b < count; b++) {
    halves.forEach((at, i) => {
      view.setUint16(b * bytes + at, f16Bits(random.gauss() * size * (i ? 0.1 : 0.02)), true);
    });
    if (format === 'mxfp4') data[b * bytes] = random.integer(118, 128);
  }
  return data;
}
