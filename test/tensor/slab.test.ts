import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { native } from '../../lib/native/load.ts';
import * as ops from '../../lib/ops/index.ts';
import { Stream, Tensor, type Weight } from '../../lib/tensor/index.ts';

const resident = (): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) / 1024;
const [N, K] = [512, 576]; // 1.1 MB in f32: smaller than a huge page
const MB = 2 ** 20;

describe('weights in slabs', () => {
  it('keep their values, and give their memory back with the last of a slab', async () => {
    using stream = new Stream({ threads: 1 });
    const source = Tensor.empty(stream, 'u8', [N * K * 4]);
    const x = Tensor.empty(stream, 'f32', [1, K]);
    x.write(new Float32Array(K).fill(1));
    const start = native().memory().allocated;
    const weights: Weight[] = [];
    for (let i = 0; i < 160; i++) {
      source.write(new Uint8Array(new Float32Array(N * K).fill(i).buffer));
      weights.push(ops.packWeight(source, 'f32', [N, K]));
    }
    await stream.sync();
    const held = resident();
    expect(native().memory().allocated - start).toBeGreaterThanOrEqual(160 * N * K * 4);
    for (const i of [0, 1, 57, 58, 159]) {
      using y = ops.linear({ x, w: weights[i]! });
      expect(new Set((await y.read()) as Float32Array)).toEqual(new Set([i * K]));
    }
    // One piece holds its slab of 64 MB; the others go.
    for (const w of weights.slice(1)) w.dispose();
    await stream.sync();
    expect(held - resident()).toBeGreaterThan(90);
    using y = ops.linear({ x, w: weights[0]! });
    expect(((await y.read()) as Float32Array)[3]).toBe(0);
    weights[0]!.dispose();
    await stream.sync();
    expect(held - resident()).toBeGreaterThan(150);
    expect(native().memory().allocated - start).toBeLessThan(MB);
    source.dispose();
    x.dispose();
  });
});
