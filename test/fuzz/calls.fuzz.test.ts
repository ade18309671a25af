import { describe, expect, it } from 'vitest';
import { ERROR_CODES } from '../../lib/errors.ts';
import { native } from '../../lib/native/load.ts';
import { OPS } from '../../lib/native/ops.gen.ts';
import { Random } from '../helpers/random.ts';

// Every op is called with tensors of random shapes, dtypes and contents: what the signature does not refuse, the value checks
// and the kernels must survive. Run under the sanitizers too (npm run test:asan). EYRIE_FUZZ=20000 runs more.
const rounds = Number(process.env.EYRIE_FUZZ ?? 200);
const addon = native();
const DTYPES = {
  f: 'f32',
  kv: 'f32',
  f32: 'f32',
  f16: 'f16',
  bf16: 'bf16',
  i32: 'i32',
  u8: 'u8',
  u16: 'u16',
  any: 'f32',
};
const BYTES: Record<string, number> = { f32: 4, f16: 2, bf16: 2, i32: 4, u8: 1, u16: 2 };
const FORMATS = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1'];
const LIMIT_BYTES = 1 << 20;

interface Arg {
  name: string;
  type: string;
  dims: string[] | null;
  optional: boolean;
}

function parse(signature: string): Arg[] {
  return signature
    .split(/\s+/)
    .filter((word) => word !== '->')
    .map((word) => {
      const m = /^(\w+):(\w+)~?(?:\[([^\]]+)\])?([!?]*)$/.exec(word)!;
      return { name: m[1]!, type: m[2]!, dims: m[3]?.split(',') ?? null, optional: m[4]!.includes('?') };
    });
}

/** Mostly small, often equal, sometimes odd. */
const SIZES = [0, 1, 1, 2, 2, 3, 4, 4, 8, 16, 31, 32, 32, 64, 64, 65, 128];

class Calls {
  readonly #r: Random;
  readonly #stream: number;
  #handles: number[] = [];
  #sizes = new Map<string, number>();

  constructor(stream: number, seed: number) {
    this.#stream = stream;
    this.#r = new Random(seed);
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#r.integer(0, from.length)]!;
  }

  #size(dim: string): number {
    if (/^\d+$/.test(dim)) return Number(dim);
    if (dim.endsWith('+1')) return this.#size(dim.slice(0, -2)) + 1;
    // Wrong on purpose now and then; else what the name was bound to.
    if (this.#r.integer(0, 40) === 0) return this.#pick(SIZES);
    if (!this.#sizes.has(dim)) this.#sizes.set(dim, this.#pick(SIZES));
    return this.#sizes.get(dim)!;
  }

  /** Relations that an op demands beside its signature hold most of the time, so that kernels are reached. */
  #relate(op: string): void {
    if (this.#r.integer(0, 8) === 0) return;
    const s = this.#sizes;
    const heads = this.#pick([1, 2, 4]);
    const dim = this.#pick([8, 16, 32, 64]);
    s.set('D', dim)
      .set('E', dim)
      .set('J', heads)
      .set('H', heads * this.#pick([1, 2, 3]));
    s.set('S', this.#pick([16, 32]))
      .set('N', this.#pick([1, 2, 5]))
      .set('C', this.#pick([32, 64, 96]));
    s.set('Q', op === 'fused_qkv' ? s.get('H')! * dim : this.#pick([1, 4, 8]))
      .set('KD', heads * dim)
      .set('VD', heads * dim);
    s.set('K', this.#pick([32, 64, 96])).set(
      'R',
      op.includes('rope') || op === 'fused_qkv' ? dim : this.#pick(SIZES),
    );
    if (op === 'sample') {
      s.set('C', 16)
        .set('V', this.#pick([1, 33, 100]))
        .set('W', Math.ceil(s.get('V')! / 32));
      s.set('R', this.#pick([1, 2, 5])).set('K', this.#pick([1, 4]));
    }
    if (op === 'linear' || op === 'pack_weight' || op === 'embed') s.set('N', this.#pick([1, 16, 17, 40]));
  }

  #tensor(a: Arg): number | null {
    if (a.optional && this.#r.integer(0, 2) === 0) return null;
    const shape = a.dims!.map((d) => this.#size(d));
    if (a.type === 'w') {
      const handle = addon.alloc(this.#stream, this.#pick(FORMATS), shape, true);
      this.#handles.push(handle);
      return handle;
    }
    let dtype = DTYPES[a.type as keyof typeof DTYPES];
    if (this.#r.integer(0, 60) === 0) dtype = this.#pick(Object.keys(BYTES));
    const n = shape.reduce((x, y) => x * y, 1);
    if (n * BYTES[dtype]! > LIMIT_BYTES) throw Object.assign(new Error('too large'), { code: 'EYRIE_SHAPE' });
    const handle = addon.alloc(this.#stream, dtype, shape, false);
    this.#handles.push(handle);
    const data = Buffer.alloc(n * BYTES[dtype]!);
    const small = this.#r.integer(0, 5) > 0;
    for (let i = 0; i < n; i++) {
      if (dtype === 'f32')
        data.writeFloatLE(
          small
            ? this.#r.gauss()
            : this.#pick([0, -0, 1e38, -1e38, Number.NaN, Number.POSITIVE_INFINITY, 1e-40]),
          4 * i,
        );
      else if (dtype === 'i32')
        data.writeInt32LE(
          small ? this.#r.integer(-1, 4) : this.#pick([-1, 0, 1, 7, 2 ** 31 - 1, -(2 ** 31), 1 << 20]),
          4 * i,
        );
      else data.writeUInt8(this.#r.integer(0, 256), i);
    }
    if (/start/.test(a.name) && dtype === 'i32' && this.#r.integer(0, 6) > 0)
      for (let i = 0; i < n; i++) data.writeInt32LE(i, 4 * i); // ascending, as these must be
    if (/seq_lens/.test(a.name) && this.#r.integer(0, 6) > 0)
      for (let i = 0; i < n; i++) data.writeInt32LE(this.#r.integer(1, 40), 4 * i);
    addon.write(this.#stream, handle, new Uint8Array(data));
    return handle;
  }

  #scalar(a: Arg): number {
    if (this.#r.integer(0, 12) === 0) return this.#pick([-1, 2 ** 31 - 1, -(2 ** 31 - 1), 1e38, 0.5, 7]);
    if (a.type === 'f32') return this.#pick([0, 1, 1e-6, 0.5, 30]);
    return a.name === 'permute' ? this.#pick([0, 0, 2, 8]) : this.#pick([0, 0, 0, 1, 2]);
  }

  /** One call; resolves to the code of its error, or 'ok'. */
  async once(name: string, args: readonly Arg[]): Promise<string> {
    try {
      this.#sizes.clear();
      this.#relate(name);
      const values = args.map((a) => (a.dims ? this.#tensor(a) : this.#scalar(a)));
      const ops = addon.ops as unknown as Record<string, (...values: unknown[]) => void>;
      ops[name]!(this.#stream, ...values);
      await addon.sync(this.#stream);
      return 'ok';
    } catch (error) {
      return (error as { code?: string }).code ?? String(error);
    } finally {
      for (const handle of this.#handles) addon.dispose(handle);
      this.#handles = [];
    }
  }
}

describe('random calls', () => {
  for (const level of addon.machine().levels) {
    it.each(OPS)(`$name survives (${level})`, async ({ name, signature }) => {
      const stream = addon.createStream('cpu', 2, level);
      const calls = new Calls(stream, name.length * 31 + level.length);
      const args = parse(signature);
      const seen = new Map<string, number>();
      for (let i = 0; i < rounds; i++) {
        const result = await calls.once(name, args);
        seen.set(result, (seen.get(result) ?? 0) + 1);
      }
      addon.closeStream(stream);
      for (const result of seen.keys()) expect(['ok', ...Object.keys(ERROR_CODES)]).toContain(result);
      // Some must get through, or nothing but the door was tested.
      if (rounds >= 200) expect(seen.get('ok') ?? 0, JSON.stringify([...seen])).toBeGreaterThan(0);
      expect(addon.memory().tensors).toBe(0);
    });
  }
});
