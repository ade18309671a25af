import { expect, it } from 'vitest';
import { kvCompact, kvCopyPages, kvWrite, Tensor } from '../../lib/ops/index.ts';
import { describeLevels } from '../helpers/describe-op.ts';
import { firstDifference } from '../helpers/floats.ts';
import { Random } from '../helpers/random.ts';
import { CACHE_TYPES, kept, Paged } from './paged.ts';

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
            for (let d = 0; d < D; d++) cache.k[row * D + d] = kept(type, k[t * (J * D + 3) + j * D + d]!);
            for (let e = 0; e < E; e++) cache.v[row * E + e] = kept(type, v[(t * J + j) * E + e]!);
          }
        }
        const before = new Paged(new Random(D), [40, 3], { J, S, D, E }, type);
        const pages = before.upload(stream());
        using whole = Tensor.from(stream(), 'f32', [T, J * D + 3], k);
        using keys = whole.view([T, J, D], { strides: [J * D + 3, D, 1] });
        using values = Tensor.from(stream(), 'f32', [T, J, E], v);
        using slotsT = Tensor.from(stream(), 'i32', [T], slots);
        kvWrite({ k: keys, v: values, slots: slotsT, pages });
        const got = cache.split(await pages.whole.read());
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
      const got = cache.split(await pages.whole.read());
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
      const got = cache.split(await pages.whole.read());
      expect(firstDifference(got.k, cache.k)).toBe(-1);
      expect(firstDifference(got.v, cache.v)).toBe(-1);
    });
  }

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
