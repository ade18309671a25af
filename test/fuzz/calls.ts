import type { Addon } from '../../lib/native/addon.ts';
import { type NativeOps, SAMPLING_COLUMNS } from '../../lib/native/ops.gen.ts';
import { FILE_FORMATS, type FileFormat, type WeightFormat } from '../../lib/tensor/index.ts';
import { byteCount } from '../../lib/weights/index.ts';
import type { Random } from '../helpers/random.ts';

const BYTES: Record<string, number> = { f32: 4, f16: 2, bf16: 2, i32: 4, u8: 1, u16: 2, f8_e4m3: 1, i8: 1 };
const CACHES = ['f32', 'f16', 'bf16', 'f8_e4m3', 'i8'];
const FILES: readonly WeightFormat[] = FILE_FORMATS;
const MADE: WeightFormat[] = ['i8', 'f8_e4m3', 'i4_g128'];
const FORMATS: readonly WeightFormat[] = [...FILES, ...MADE];
const SIZES = [0, 1, 1, 2, 2, 3, 4, 4, 8, 16, 31, 32, 32, 64, 64, 65, 128];
const EXTREME_INTEGERS = [-1, 0, 1, 7, 2 ** 31 - 1, -(2 ** 31), 1 << 20];
const EXTREME_FLOATS = [0, -0, 1e38, -1e38, Number.NaN, Number.POSITIVE_INFINITY, 1e-40];
const LIMIT_BYTES = 1 << 20;

export interface Arg {
  name: string;
  type: string;
  /** null: a scalar */
  dims: string[] | null;
  optional: boolean;
}

/** The arguments of a signature of the op table. */
export function parse(signature: string): Arg[] {
  return signature
    .split(/\s+/)
    .filter((word) => word !== '->')
    .map((word) => {
      const m = /^(\w+):(\w+)~?(?:\[([^\]]+)\])?([!?^]*)$/.exec(word)!;
      return { name: m[1]!, type: m[2]!, dims: m[3]?.split(',') ?? null, optional: m[4]!.includes('?') };
    });
}

/**
 * Random calls of ops. Shapes mostly agree and contents are mostly plausible, so that kernels are reached; some of everything
 * is wrong on purpose.
 */
export class Calls {
  readonly #addon: Addon;
  readonly #r: Random;
  readonly #stream: number;
  #handles: number[] = [];
  #sizes = new Map<string, number>();
  #format: WeightFormat = 'f32';
  #cache = 'f32';
  #plausible = true;
  #withBias = true;
  #withCounts = true;

  constructor(addon: Addon, stream: number, r: Random) {
    this.#addon = addon;
    this.#stream = stream;
    this.#r = r;
  }

  /** One call; resolves to the code of its error, or 'ok'. */
  async once(op: keyof NativeOps, args: readonly Arg[]): Promise<string> {
    try {
      this.#begin(op);
      const values = args.map((a) => (a.dims ? this.#tensor(op, a) : this.#scalar(a)));
      const ops = this.#addon.ops as unknown as Record<string, (...values: unknown[]) => void>;
      ops[op]!(this.#stream, ...values);
      await this.#addon.sync(this.#stream);
      return 'ok';
    } catch (error) {
      return (error as { code?: string }).code ?? String(error);
    } finally {
      for (const handle of this.#handles) this.#addon.dispose(handle);
      this.#handles = [];
    }
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#r.integer(0, from.length)]!;
  }

  #often(): boolean {
    return this.#r.integer(0, 8) > 0;
  }

  /** Relations between sizes that an op demands beside its signature. */
  #begin(op: string): void {
    const s = this.#sizes;
    s.clear();
    // What the op makes, for the two that make weights (q4_0 is of both kinds); anything now and then.
    const made =
      op === 'quantize_weight' ? [...MADE, 'q4_0' as const] : op === 'pack_weight' ? FILES : FORMATS;
    this.#format = this.#pick(this.#often() ? made : FORMATS);
    this.#cache = this.#pick(CACHES);
    this.#plausible = this.#often();
    this.#withBias = this.#r.integer(0, 2) === 0;
    this.#withCounts = this.#r.integer(0, 2) === 0;
    if (!this.#often()) return;
    const heads = this.#pick([1, 2, 4]);
    const dim = this.#pick([8, 16, 32, 64]);
    s.set('D', dim)
      .set('E', dim)
      .set('J', heads)
      .set('H', heads * this.#pick([1, 2, 3]));
    s.set('S', this.#pick([16, 32]))
      .set('N', this.#pick([1, 2, 5]))
      .set('C', this.#pick([32, 64, 96]));
    s.set('Q', this.#pick([1, 4, 8]))
      .set('B', this.#pick([1, 2, 3]))
      .set('M', this.#pick([1, 2, 4]));
    s.set('K', this.#pick([32, 64, 96, 256]))
      .set('T', this.#pick([1, 2, 5, 9]))
      .set('R', this.#pick(SIZES));
    if (op === 'rope' || op === 'fused_qkv') s.set('R', dim);
    if (op === 'fused_qkv')
      s.set('Q', s.get('H')! * dim)
        .set('KD', heads * dim)
        .set('VD', heads * dim);
    if (op === 'norm')
      s.set('G', heads)
        .set('W', this.#pick([1, heads]))
        .set('V', this.#pick([1, heads]));
    if (op === 'linear' || op === 'pack_weight' || op === 'quantize_weight' || op === 'embed')
      s.set('N', this.#pick([1, 16, 17, 40]));
    if (op === 'embed') s.set('D', s.get('C')!);
    if (op === 'pack_weight') {
      const n = s.get('N')! * s.get('K')!;
      s.set('L', FILES.includes(this.#format) ? (byteCount(this.#format as FileFormat, n) ?? n) : n);
    }
    if (op === 'kv_copy_pages') s.set('L', this.#pick([0, 1, 2]));
    if (op === 'sample') {
      s.set('C', SAMPLING_COLUMNS.length)
        .set('V', this.#pick([1, 33, 100]))
        .set('W', Math.ceil(s.get('V')! / 32));
      s.set('R', this.#pick([1, 2, 5]))
        .set('K', 1)
        .set('L', this.#pick([0, 1, 7]))
        .set('U', this.#pick([1, 3]));
    }
  }

  #size(dim: string): number {
    if (/^\d+$/.test(dim)) return Number(dim);
    if (dim.endsWith('+1')) return this.#size(dim.slice(0, -2)) + 1;
    if (this.#r.integer(0, 60) === 0) return this.#pick(SIZES);
    if (!this.#sizes.has(dim)) this.#sizes.set(dim, this.#pick(SIZES));
    return this.#sizes.get(dim)!;
  }

  #keep(handle: number): number {
    this.#handles.push(handle);
    return handle;
  }

  #tensor(op: string, a: Arg): number | null {
    if (a.optional && this.#absent(a)) return null;
    const shape = a.dims!.map((d) => this.#size(d));
    if (a.type === 'w') return this.#keep(this.#addon.alloc(this.#stream, this.#format, shape, true));
    let dtype = a.type === 'kv' ? this.#cache : a.type in BYTES ? a.type : 'f32';
    if (this.#r.integer(0, 60) === 0) dtype = this.#pick(Object.keys(BYTES));
    const n = shape.reduce((x, y) => x * y, 1);
    if (n * BYTES[dtype]! > LIMIT_BYTES) return null; // a null where a tensor must be: an error too
    const handle = this.#keep(this.#addon.alloc(this.#stream, dtype, shape, false));
    const data = Buffer.alloc(n * BYTES[dtype]!);
    const tame = this.#plausible || this.#often();
    for (let i = 0; i < n; i++) {
      if (dtype === 'f32') data.writeFloatLE(this.#float(a.name, i, tame), 4 * i);
      else if (dtype === 'i32') data.writeInt32LE(this.#integer(op, a.name, i, tame), 4 * i);
      else data.writeUInt8(this.#r.integer(0, 256), i);
    }
    this.#addon.write(this.#stream, handle, new Uint8Array(data));
    return handle;
  }

  /** Arguments that go together are absent together, most of the time. */
  #absent(a: Arg): boolean {
    if (this.#plausible) {
      if (a.name.startsWith('bias_') || a.name === 'positions' || a.name === 'pos') return !this.#withBias;
      if (a.name.startsWith('counts')) return !this.#withCounts;
      if (/^[kv]_scale$/.test(a.name)) return this.#cache !== 'f8_e4m3';
      if (/^[kv]_scales$/.test(a.name)) return this.#cache !== 'i8';
    }
    return this.#r.integer(0, 2) === 0;
  }

  #float(name: string, i: number, tame: boolean): number {
    if (name === 'columns' && this.#plausible) {
      const { min, max, default: usual } = SAMPLING_COLUMNS[i % SAMPLING_COLUMNS.length]!;
      return this.#pick([usual, usual, min, Math.min(max, 3), max]);
    }
    if (/^[kv]_scale$/.test(name) && this.#plausible) return 0.5 + this.#r.uniform();
    return tame ? this.#r.gauss() : this.#pick(EXTREME_FLOATS);
  }

  #integer(op: string, name: string, i: number, tame: boolean): number {
    const below = (n: number): number => this.#r.integer(0, Math.max(1, n));
    const size = (dim: string): number => this.#sizes.get(dim) ?? 1;
    if (!this.#plausible) return tame ? this.#r.integer(-1, 4) : this.#pick(EXTREME_INTEGERS);
    const room = size('M') * size('S');
    switch (name) {
      case 'q_start':
        return Math.floor((i * size('T')) / Math.max(1, size('B')));
      case 'seq_lens':
        return Math.min(room, size('T') + below(room - size('T')));
      case 'anc':
        return 0;
      case 'block_table':
        return below(size('N'));
      case 'slots':
        return below(size('N') * size('S') + 1) - 1;
      case 'src':
        return 0;
      case 'dst':
        return Math.min(i + 1, size('N') - 1);
      case 'ids':
      case 'bias_ids':
        return below(size('V'));
      case 'rows':
        return below(op === 'take_rows' ? size('T') : size('P'));
      case 'positions':
        return below(size('P'));
      case 'adapter':
        return below(size('S') + 1) - 1;
      case 'counts_row':
        return below(size('U') + 1) - 1;
      case 'bias_start':
        return Math.min(i, size('L'));
      case 'num_nodes':
        return 1 + below(size('Q'));
      case 'parents':
        return (i % size('Q')) - 1;
      case 'path':
        return i % size('Q');
      case 'num':
        return below(size('Q') + 1);
      case 'base':
        return below((op === 'tree_prepare' ? 16 * size('M') : room) - size('Q'));
      default:
        return below(4);
    }
  }

  #scalar(a: Arg): number {
    if (!this.#plausible || this.#r.integer(0, 20) === 0)
      return this.#pick([-1, 2 ** 31 - 1, -(2 ** 31 - 1), 1e38, 0.5, 7]);
    if (a.type === 'f32') return this.#pick([0, 1, 1e-6, 0.5, 30]);
    if (a.name === 'page_size') return 16;
    return a.name === 'permute' || a.name === 'offset' ? 0 : this.#pick([0, 0, 0, 1]);
  }
}
