/** Conversions between numbers and the bits of f16 and bf16, and comparisons. Independent of the native ones. */
const f = new Float32Array(1);
const u = new Uint32Array(f.buffer);

export function bf16Bits(x: number): number {
  f[0] = x;
  const b = u[0]!;
  if ((b & 0x7fffffff) > 0x7f800000) return ((b >>> 16) | 0x40) & 0xffff;
  return ((b + 0x7fff + ((b >>> 16) & 1)) >>> 16) & 0xffff;
}

export function fromBf16(bits: number): number {
  u[0] = bits << 16;
  return f[0]!;
}

export function fromF16(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const e = (h >> 10) & 31;
  const m = h & 1023;
  if (e === 31) return m ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (e ? (1024 + m) * 2 ** (e - 25) : m * 2 ** -24);
}

/** Round to nearest even, by searching the two neighbours (slow, obviously right). */
export function f16Bits(x: number): number {
  if (Number.isNaN(x)) return 0x7e00;
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const a = Math.abs(x);
  if (a >= 65520) return sign | 0x7c00;
  let lo = 0;
  let hi = 0x7bff;
  while (lo < hi) {
    const mid = (lo + hi + 1) >> 1;
    if (fromF16(mid) <= a) lo = mid;
    else hi = mid - 1;
  }
  const below = a - fromF16(lo);
  const above = (lo === 0x7bff ? 65536 : fromF16(lo + 1)) - a;
  return sign | (below < above || (below === above && lo % 2 === 0) ? lo : lo + 1);
}

/** An f8_e4m3 value of its bits: sign, 4 bits of exponent, 3 of mantissa; 0x7f is NaN. */
export function fromE4m3(code: number): number {
  const sign = code & 0x80 ? -1 : 1;
  const e = (code >> 3) & 15;
  const m = code & 7;
  if (e === 15 && m === 7) return Number.NaN;
  return sign * (e ? (8 + m) * 2 ** (e - 10) : m * 2 ** -9);
}

const E4M3 = Float64Array.from({ length: 0x7f }, (_, code) => fromE4m3(code));

/** Round to nearest even, at most ±448, by searching the two neighbours. */
export function e4m3Bits(x: number): number {
  if (Number.isNaN(x)) return 0x7f;
  const sign = x < 0 || Object.is(x, -0) ? 0x80 : 0;
  const a = Math.min(448, Math.abs(x));
  let lo = 0;
  for (let step = 64; step > 0; step >>= 1) if (lo + step < 0x7f && E4M3[lo + step]! <= a) lo += step;
  if (lo === 0x7e) return sign | lo;
  const [below, above] = [a - E4M3[lo]!, E4M3[lo + 1]! - a];
  return sign | (below < above || (below === above && lo % 2 === 0) ? lo : lo + 1);
}

/** The nearest integer, the even one of two. */
export function roundEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

/** Relative error ||a - b|| / ||b||, and the largest absolute one. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): { relative: number; max: number } {
  let d2 = 0;
  let b2 = 0;
  let max = 0;
  for (let i = 0; i < b.length; i++) {
    const x = a[i]!;
    const y = b[i]!;
    if (Object.is(x, y) || x === y || (Number.isNaN(x) && Number.isNaN(y))) continue;
    const d = Math.abs(x - y);
    if (!(d <= max)) max = d;
    d2 += d * d;
  }
  for (let i = 0; i < b.length; i++) if (Number.isFinite(b[i]!)) b2 += b[i]! * b[i]!;
  return { relative: Math.sqrt(d2 / (b2 || 1)), max };
}

/** Index of the first element whose bits differ, or -1. */
export function firstDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Math.min(a.length, b.length);
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) return i;
  return -1;
}
