import { type DType, type Stream, Tensor } from '../../lib/ops/index.ts';
import { bf16Bits, f16Bits, fromBf16, fromF16 } from '../helpers/floats.ts';
import type { Random } from '../helpers/random.ts';

export type CacheType = 'f32' | 'f16' | 'bf16';
export const CACHE_TYPES: readonly CacheType[] = ['f32', 'f16', 'bf16'];

/** What a cache of this type keeps of x. */
export function kept(type: CacheType, x: number): number {
  return type === 'f32' ? Math.fround(x) : type === 'f16' ? fromF16(f16Bits(x)) : fromBf16(bf16Bits(x));
}

/** Numbers as a tensor of the cache's type holds them, for numbers that it keeps: only the encoding changes. */
export function encode(type: CacheType, x: Float32Array): Float32Array | Uint16Array {
  if (type === 'f32') return x;
  const bits = new Uint32Array(x.buffer, x.byteOffset, x.length);
  const out = new Uint16Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const e = (bits[i]! >>> 23) & 255;
    if (type === 'bf16') out[i] = bits[i]! >>> 16;
    else if (e > 112 && e < 143)
      out[i] = ((bits[i]! >>> 16) & 0x8000) | (((bits[i]! & 0x7fffffff) - 0x38000000) >>> 13);
    else out[i] = f16Bits(x[i]!);
  }
  return out;
}

export function decode(type: CacheType, x: ArrayLike<number>): Float32Array {
  return Float32Array.from(x, type === 'f32' ? Number : type === 'f16' ? fromF16 : fromBf16);
}

/**
 * A cache of one layer as plain numbers: keys and values of token j of request b, and where they lie. Pages are dealt out
 * in random order; whatever holds no token is NaN.
 */
export class Paged {
  readonly lens: readonly number[];
  readonly type: CacheType;
  readonly J: number;
  readonly S: number;
  readonly D: number;
  readonly E: number;
  readonly N: number;
  readonly M: number;
  readonly table: Int32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;

  constructor(
    random: Random,
    lens: readonly number[],
    shape: { J: number; S: number; D: number; E: number },
    type: CacheType = 'f32',
  ) {
    this.J = shape.J;
    this.S = shape.S;
    this.D = shape.D;
    this.E = shape.E;
    this.lens = lens;
    this.type = type;
    const pages = lens.map((n) => Math.ceil(n / shape.S));
    this.N = pages.reduce((a, n) => a + n, 2);
    this.M = Math.max(1, ...pages);
    this.table = new Int32Array(lens.length * this.M).fill(-1);
    const free = random.permutation(this.N);
    this.k = new Float32Array(this.N * this.J * this.S * this.D).fill(Number.NaN);
    this.v = new Float32Array(this.N * this.J * this.S * this.E).fill(Number.NaN);
    for (let b = 0; b < lens.length; b++) {
      for (let m = 0; m < pages[b]!; m++) this.table[b * this.M + m] = free.pop()!;
      for (let token = 0; token < lens[b]!; token++) {
        for (let j = 0; j < this.J; j++) {
          const row = this.row(b, token, j);
          for (let d = 0; d < this.D; d++) this.k[row * this.D + d] = kept(type, random.gauss());
          for (let e = 0; e < this.E; e++) this.v[row * this.E + e] = kept(type, random.gauss());
        }
      }
    }
  }

  slot(b: number, token: number): number {
    return this.table[b * this.M + Math.floor(token / this.S)]! * this.S + (token % this.S);
  }

  /** Row of [N,J,S] that holds head j of a token. */
  row(b: number, token: number, j: number): number {
    const slot = this.slot(b, token);
    return (Math.floor(slot / this.S) * this.J + j) * this.S + (slot % this.S);
  }

  /** Keys and values in one buffer, a page's keys before its values: strided views, as the engine's are. */
  upload(s: Stream): { whole: Tensor; k: Tensor; v: Tensor } {
    const [kPage, vPage] = [this.J * this.S * this.D, this.J * this.S * this.E];
    const all = new Float32Array(this.N * (kPage + vPage));
    for (let n = 0; n < this.N; n++) {
      all.set(this.k.subarray(n * kPage, (n + 1) * kPage), n * (kPage + vPage));
      all.set(this.v.subarray(n * vPage, (n + 1) * vPage), n * (kPage + vPage) + kPage);
    }
    const whole = Tensor.from(s, this.type as DType, [all.length], encode(this.type, all));
    const view = (width: number, offset: number) =>
      whole.view([this.N, this.J, this.S, width], {
        strides: [kPage + vPage, this.S * width, width, 1],
        offset,
      });
    return { whole, k: view(this.D, 0), v: view(this.E, kPage) };
  }

  /** Splits what `upload` laid out into keys [N,J,S,D] and values [N,J,S,E] again. */
  split(data: ArrayLike<number>): { k: Float32Array; v: Float32Array } {
    const all = decode(this.type, data);
    const [kPage, vPage] = [this.J * this.S * this.D, this.J * this.S * this.E];
    const k = new Float32Array(this.k.length);
    const v = new Float32Array(this.v.length);
    for (let n = 0; n < this.N; n++) {
      k.set(all.subarray(n * (kPage + vPage), n * (kPage + vPage) + kPage), n * kPage);
      v.set(all.subarray(n * (kPage + vPage) + kPage, (n + 1) * (kPage + vPage)), n * vPage);
    }
    return { k, v };
  }
}
