import { expect, it } from 'vitest';
import { kvCompact, kvCopyPages, kvWrite, Tensor } from '../../lib/ops/index.ts';
import { describeLevels } from '../helpers/describe-op.ts';
import { e4m3Bits, f16Bits, firstDifference, fromE4m3, fromF16 } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';
import { CACHE_TYPES, keptRow, Paged, quantized } from './paged.ts';

describeLevels('cache', (stream, backend) => {
  for (const type of CACHE_TYPES) {
    for (const [J, S, D, E] of [
      [2, 16, 64, 64],
      [3, 5, 20, 8],
      [1, 32, 33, 47],
    ] as const) {
      it(`kv_write ${type}, [${J},${S},${D}|${E}]`, async () => {
        const random = new Random(D);
        const cache = new Paged(random, [40, 3], { J, S, D, E }, type);
        const T = 9;
        const [k, v] = [random.normal(T * (J * D + 3)), random.normal(T * J * E)];
        const slots = Int32Array.from(random.permutation(cache.N * S).slice(0, T));
        slots[4] = -1;
        for (let t = 0; t < T; t++) {
          if (slots[t]! < 0) continue;
          for (let j = 0; j < J; j++) {
            const row = (Math.floor(slots[t]! / S) * J + j) * S + (slots[t]! % S);
            const [from, at] = [t * (J * D + 3) + j * D, (t * J + j) * E];
            cache.k.set(keptRow(type, k.subarray(from, from + D), cache.kScale[j]!), row * D);
            cache.v.set(keptRow(type, v.subarray(at, at + E), cache.vScale[j]!), row * E);
          }
        }
        const before = new Paged(new Random(D), [40, 3], { J, S, D, E }, type);
        const pages = before.upload(stream());
        using whole = Tensor.from(stream(), 'f32', [T, J * D + 3], k);
        using keys = whole.view([T, J, D], { strides: [J * D + 3, D, 1] });
        using values = Tensor.from(stream(), 'f32', [T, J, E], v);
        using slotsT = Tensor.from(stream(), 'i32', [T], slots);
        kvWrite({ k: keys, v: values, slots: slotsT, pages });
        const got = await cache.download(pages);
        expect(firstDifference(got.k, cache.k)).toBe(-1);
        expect(firstDifference(got.v, cache.v)).toBe(-1);
      });
    }

    it(`kv_compact ${type} moves accepted rows down in place`, async () => {
      const [J, S, D, E, Q] = [2, 4, 24, 10, 9];
      const cache = new Paged(new Random(3), [31, 18, 12], { J, S, D, E }, type);
      const pages = cache.upload(stream());
      const base = [20, 9, 12];
      const paths = [[0, 2, 3, 7, 8], [0, 1, 5], []];
      const path = new Int32Array(3 * Q).fill(-1);
      for (const [b, p] of paths.entries()) path.set(p, b * Q);
      for (const [b, p] of paths.entries()) {
        for (const [d, node] of p.entries()) {
          for (let j = 0; j < J; j++) {
            const [from, to] = [cache.row(b, base[b]! + node, j), cache.row(b, base[b]! + d, j)];
            cache.k.copyWithin(to * D, from * D, (from + 1) * D);
            cache.v.copyWithin(to * E, from * E, (from + 1) * E);
          }
        }
      }
      using blockTable = Tensor.from(stream(), 'i32', [3, cache.M], cache.table);
      using baseT = Tensor.from(stream(), 'i32', [3], Int32Array.from(base));
      using pathT = Tensor.from(stream(), 'i32', [3, Q], path);
      using num = Tensor.from(
        stream(),
        'i32',
        [3],
        Int32Array.from(paths, (p) => p.length),
      );
      kvCompact({ blockTable, base: baseT, path: pathT, num, pages });
      const got = await cache.download(pages);
      expect(firstDifference(got.k, cache.k)).toBe(-1);
      expect(firstDifference(got.v, cache.v)).toBe(-1);
    });

    it(`kv_copy_pages ${type}`, async () => {
      const [J, S, D, E] = [3, 8, 16, 12];
      const cache = new Paged(new Random(4), [50, 20], { J, S, D, E }, type);
      const pages = cache.upload(stream());
      const [src, dst] = [
        [1, 5, 1],
        [0, 3, 7],
      ] as const;
      for (const [i, from] of src.entries()) {
        cache.k.copyWithin(dst[i]! * J * S * D, from * J * S * D, (from + 1) * J * S * D);
        cache.v.copyWithin(dst[i]! * J * S * E, from * J * S * E, (from + 1) * J * S * E);
      }
      using srcT = Tensor.from(stream(), 'i32', [3], Int32Array.from(src));
      using dstT = Tensor.from(stream(), 'i32', [3], Int32Array.from(dst));
      kvCopyPages({ src: srcT, dst: dstT, pages });
      const got = await cache.download(pages);
      expect(firstDifference(got.k, cache.k)).toBe(-1);
      expect(firstDifference(got.v, cache.v)).toBe(-1);
    });
  }

  it('f8_e4m3: every code comes back, ties go to the even one, what is too large to 448', async () => {
    const values: number[] = [];
    for (let code = 0; code < 0x7f; code++) {
      const [x, next] = [fromE4m3(code), fromE4m3(Math.min(0x7e, code + 1))];
      values.push(x, -x, (x + next) / 2, -(x + next) / 2, x + (next - x) * 0.49, x + (next - x) * 0.51);
    }
    values.push(447.9, 449, 463.9, 464, 480, 1e9, -1e9, Infinity, -Infinity, 1e-20, -1e-20, 1e-40, 0, -0);
    const D = values.length;
    for (const scale of [1, 0.125, 3.1]) {
      const x = Float32Array.from(values, (v) => v * scale);
      using keys = Tensor.from(stream(), 'f32', [1, 1, D], x);
      using slots = Tensor.from(stream(), 'i32', [1], Int32Array.of(0));
      using k = Tensor.empty(stream(), 'f8_e4m3', [1, 1, 1, D]);
      using v = Tensor.empty(stream(), 'f8_e4m3', [1, 1, 1, D]);
      using kScale = Tensor.from(stream(), 'f32', [1], Float32Array.of(scale));
      using vScale = Tensor.from(stream(), 'f32', [1], Float32Array.of(1));
      kvWrite({ k: keys, v: keys, slots, pages: { k, v, kScale, vScale } });
      const inverse = Math.fround(1 / Math.fround(scale));
      const want = Array.from(x, (y) => e4m3Bits(Math.fround(y * inverse)));
      // A number that is too small to be normal may be taken for 0: both are stored as 0, with its sign or without.
      const same = (a: number, b: number) => a === b || (a % 128 === 0 && b % 128 === 0);
      const got = (await k.read()) as Uint8Array;
      expect(want.findIndex((w, i) => !same(got[i]!, w))).toBe(-1);
      const plain = (await v.read()) as Uint8Array;
      expect(Array.from(x).findIndex((y, i) => !same(plain[i]!, e4m3Bits(y)))).toBe(-1);
    }
  });

  it('NaN stays NaN in f8_e4m3, and in the scale of its row in i8; i8 rows of zeros and of extremes', async () => {
    const D = 20;
    const rows = [
      Array.from({ length: D }, (_, i) => (i === 7 ? Number.NaN : i)),
      Array.from({ length: D }, (_, i) => (i === 19 ? -Infinity : 1)),
      Array(D).fill(0),
      Array.from({ length: D }, (_, i) => i * 1e-9),
      Array.from({ length: D }, (_, i) => (i - 3) * 1e-6),
      Array.from({ length: D }, (_, i) => (i - 12) * 1e30),
      Array.from({ length: D }, (_, i) => (i - 9.5) * 7),
      Array(D).fill(-0.3),
    ];
    const T = rows.length;
    const x = Float32Array.from(rows.flat());
    using keys = Tensor.from(stream(), 'f32', [T, 1, D], x);
    using slots = Tensor.from(
      stream(),
      'i32',
      [T],
      Int32Array.from({ length: T }, (_, t) => t),
    );
    using bytes = Tensor.empty(stream(), 'f8_e4m3', [1, 1, T, D]);
    using one = Tensor.from(stream(), 'f32', [1], Float32Array.of(1));
    kvWrite({ k: keys, v: keys, slots, pages: { k: bytes, v: bytes, kScale: one, vScale: one } });
    expect(((await bytes.read()) as Uint8Array)[7]! & 0x7f).toBe(0x7f);
    using k = Tensor.from(stream(), 'i8', [1, 1, T, D], new Int8Array(T * D).fill(99));
    using v = Tensor.empty(stream(), 'i8', [1, 1, T, D]);
    using kScales = Tensor.empty(stream(), 'f16', [1, 1, T]);
    using vScales = Tensor.empty(stream(), 'f16', [1, 1, T]);
    kvWrite({ k: keys, v: keys, slots, pages: { k, v, kScales, vScales } });
    const codes = (await k.read()) as Int8Array;
    const scales = (await kScales.read()) as Uint16Array;
    for (const t of rows.keys()) {
      const want = quantized(x.subarray(t * D, (t + 1) * D));
      expect(Array.from(codes.subarray(t * D, (t + 1) * D)), `row ${t}`).toEqual(Array.from(want.codes));
      if (t < 2) expect(fromF16(scales[t]!), `scale ${t}`).toBeNaN();
      else expect(scales[t], `scale ${t}`).toBe(f16Bits(want.scale));
    }
    expect(await v.read()).toEqual(codes);
    expect(await vScales.read()).toEqual(scales);
  });

  it('asks for the scales that the pages need, and for no others', async () => {
    const s = stream();
    using x = Tensor.empty(s, 'f32', [1, 1, 8]);
    using slots = Tensor.from(s, 'i32', [1], Int32Array.of(0));
    using half = Tensor.empty(s, 'f16', [1, 1, 4, 8]);
    using bytes = Tensor.empty(s, 'f8_e4m3', [1, 1, 4, 8]);
    using ints = Tensor.empty(s, 'i8', [1, 1, 4, 8]);
    using one = Tensor.from(s, 'f32', [1], Float32Array.of(1));
    using zero = Tensor.from(s, 'f32', [1], Float32Array.of(0));
    using plane = Tensor.empty(s, 'f16', [1, 1, 4]);
    const refused = async (pages: Parameters<typeof kvWrite>[0]['pages'], message: string) => {
      kvWrite({ k: x, v: x, slots, pages });
      await expect(x.read()).rejects.toThrow(message);
    };
    await refused({ k: bytes, v: bytes }, 'kv_write: k_scale is missing: f8_e4m3 pages need it');
    await refused({ k: bytes, v: bytes, kScale: one }, 'kv_write: v_scale is missing');
    await refused({ k: ints, v: ints, kScales: plane }, 'kv_write: v_scales is missing: i8 pages need it');
    await refused({ k: half, v: half, kScale: one }, 'kv_write: k_scale is given, but f16 pages have none');
    await refused({ k: ints, v: ints, kScale: one, vScale: one }, 'kv_write: k_scale is given, but i8 pages');
    if (!backend.cuda)
      await refused(
        { k: bytes, v: bytes, kScale: one, vScale: zero },
        'kv_write: v_scale[0] is 0, expected a scale',
      );
    expect(() => kvWrite({ k: x, v: x, slots, pages: { k: bytes, v: ints } })).toThrow(
      'kv_write: v_pages is i8, expected f8_e4m3',
    );
  });

  it('refuses slots, pages and paths that do not exist', async () => {
    const s = stream();
    const cache = new Paged(new Random(5), [8, 8], { J: 1, S: 4, D: 8, E: 8 });
    const pages = cache.upload(s);
    using x = Tensor.empty(s, 'f32', [2, 1, 8]);
    using slots = Tensor.from(s, 'i32', [2], Int32Array.of(3, 24));
    kvWrite({ k: x, v: x, slots, pages });
    await expect(pages.whole.read()).rejects.toThrow(
      'kv_write: slots[1] is 24, expected a slot (or a negative number)',
    );
    using src = Tensor.from(s, 'i32', [2], Int32Array.of(0, 1));
    using dst = Tensor.from(s, 'i32', [2], Int32Array.of(1, 2));
    kvCopyPages({ src, dst, pages });
    // A device looks at one copy at a time: pages outside the pool are all that it sees.
    if (backend.cuda) await pages.whole.read();
    else
      await expect(pages.whole.read()).rejects.toThrow(
        'kv_copy_pages: src[1] is 1, expected a page that no copy of the call writes',
      );
    using outside = Tensor.from(s, 'i32', [2], Int32Array.of(2, cache.N));
    kvCopyPages({ src, dst: outside, pages });
    await expect(pages.whole.read()).rejects.toThrow(
      `kv_copy_pages: dst[1] is ${cache.N}, expected a page in [0, ${cache.N})`,
    );
    using blockTable = Tensor.from(s, 'i32', [2, cache.M], cache.table);
    using base = Tensor.from(s, 'i32', [2], Int32Array.of(2, 2));
    using path = Tensor.from(s, 'i32', [2, 3], Int32Array.of(0, 2, 1, 0, 1, 2));
    using num = Tensor.from(s, 'i32', [2], Int32Array.of(3, 3));
    kvCompact({ blockTable, base, path, num, pages });
    await expect(pages.whole.read()).rejects.toThrow(
      `kv_compact: path[0,2] is 1, expected ${backend.cuda ? 'a node in [3, ' : 'ascending nodes'}`,
    );
  });
});
