// What the workers of a CPU stream share: scratch memory that grows from launch to launch, and the count of what they wait.
import { describe, expect, it } from 'vitest';
import { linear, packWeight } from '../../lib/ops/index.ts';
import { Stream, Tensor } from '../../lib/tensor/index.ts';
import { Random } from '../helpers/random.ts';

const [N, K] = [48, 512];

/** Products of so many rows after one another, on `threads` workers. */
async function products(threads: number, rows: number[]): Promise<Float32Array[]> {
  using stream = new Stream({ threads });
  const floats = (count: number, seed: number) => new Random(seed).normal(count);
  const bytes = new Uint8Array(floats(N * K, 1).buffer);
  using source = Tensor.from(stream, 'u8', [bytes.length], bytes);
  using w = packWeight(source, 'f32', [N, K]);
  const all: Promise<Float32Array>[] = [];
  for (const T of rows) {
    using x = Tensor.from(stream, 'f32', [T, K], floats(T * K, T));
    using out = linear({ x, w });
    all.push(out.read() as Promise<Float32Array>);
  }
  return await Promise.all(all); // before the stream is closed
}

describe('workers', () => {
  it('share scratch memory that grows and is used again, with the bits of one thread', async () => {
    const rows = [1, 17, 40, 300, 40, 17, 700, 300, 1];
    const want = await products(1, rows);
    for (const threads of [2, 3, 5]) expect(await products(threads, rows)).toEqual(want);
  });

  it('count what the first of them waits, from the first question on', async () => {
    using stream = new Stream({ threads: 2 });
    using x = Tensor.from(stream, 'f32', [64, K], new Random(3).normal(64 * K));
    const bytes = new Uint8Array(new Random(4).normal(N * K).buffer);
    using source = Tensor.from(stream, 'u8', [bytes.length], bytes);
    using w = packWeight(source, 'f32', [N, K]);
    await stream.sync();
    expect(stream.waits).toEqual({ launches: 0, barriers: 0, ms: 0 });
    for (let i = 0; i < 10; i++) linear({ x, w }).dispose();
    await stream.sync();
    const { launches, barriers, ms } = stream.waits;
    expect(launches).toBe(10);
    // One a product, behind the preparation of its rows, and two where scratch memory had to grow.
    expect(barriers).toBeGreaterThanOrEqual(10);
    expect(barriers).toBeLessThanOrEqual(12);
    expect(ms).toBeGreaterThan(0);
  });

  it('do not wait when there is one', async () => {
    using stream = new Stream({ threads: 1 });
    expect(stream.waits).toEqual({ launches: 0, barriers: 0, ms: 0 });
    using x = Tensor.from(stream, 'f32', [1, K], new Float32Array(K));
    const bytes = new Uint8Array(4 * N * K);
    using source = Tensor.from(stream, 'u8', [bytes.length], bytes);
    using w = packWeight(source, 'f32', [N, K]);
    linear({ x, w }).dispose();
    await stream.sync();
    expect(stream.waits.launches).toBe(0);
  });
});
