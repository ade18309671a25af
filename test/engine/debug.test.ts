// EYRIE_DEBUG=1: values that are not finite are reported where they come up first.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/index.ts';
import { loadWeights, openModel } from '../../lib/models/index.ts';
import { add, logits } from '../../lib/ops/index.ts';
import { Stream, Tensor } from '../../lib/tensor/index.ts';
import { backends, streamOptions } from '../helpers/describe-op.ts';
import { goldenModel, ids, makeEngine, run } from '../helpers/engine.ts';

const PROMPT = [5, 17, 40, 8];
const folder = mkdtempSync(join(tmpdir(), 'eyrie-debug-'));
afterAll(() => rmSync(folder, { recursive: true }));
beforeEach(() => {
  process.env.EYRIE_DEBUG = '1';
});
afterEach(() => {
  delete process.env.EYRIE_DEBUG;
});

/** A copy of a golden checkpoint in which the first value of a tensor is NaN. */
function damaged(tensor: string): string {
  const copy = join(folder, tensor);
  cpSync(goldenModel('llama32'), copy, { recursive: true });
  const path = join(copy, 'model.safetensors');
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const entry = JSON.parse(bytes.toString('utf8', 8, 8 + length))[tensor];
  const at = 8 + length + entry.data_offsets[0];
  if (entry.dtype === 'F32') bytes.writeUInt32LE(0x7fc00000, at);
  else bytes.writeUInt16LE(entry.dtype === 'BF16' ? 0x7fc0 : 0x7e00, at);
  writeFileSync(path, bytes);
  return copy;
}

for (const backend of backends) {
  describe(`EYRIE_DEBUG=1 on ${backend.name}`, () => {
    const outcome = async (path: string) => {
      const stream = new Stream(streamOptions(backend, 2));
      const model = await loadWeights(await openModel(path), stream, { activations: 'auto', positions: 64 });
      const engine = new Engine(model, {
        contextLength: 64,
        kvTokens: 64,
        kvDtype: 'f32',
        maxBatchTokens: 16,
        maxSequences: 2,
      });
      try {
        return await run(engine, PROMPT, { temperature: 0 }, 6).then(ids, (error) => error);
      } finally {
        await engine.close();
        model.dispose();
        stream.dispose();
      }
    };

    it.each([
      [
        'model.layers.1.mlp.down_proj.weight',
        /^linear \(layer 1\): out\[0,0\] is NaN, the first of 4 values/,
      ],
      ['model.layers.0.self_attn.q_proj.weight', /^fused_qkv \(layer 0\): q\[0,0,0\] is NaN/],
      [
        'model.layers.1.input_layernorm.weight',
        /^fused_qkv \(layer 1\): q\[0,0,0\] is NaN.* argument norm\[0\] is not finite/,
      ],
      ['model.norm.weight', /^norm \(head\): out\[0,0,0\] is NaN.* argument weight\[0,0\] is not finite/],
    ])('names the op and the layer: %s', async (tensor, message) => {
      expect(await outcome(damaged(tensor))).toMatchObject({
        code: 'EYRIE_NON_FINITE',
        message: expect.stringMatching(message),
      });
    });

    it('changes no token of a healthy model, whose graphs run launch by launch', async () => {
      const checked = await makeEngine('llama32', {}, streamOptions(backend, 2));
      expect(checked.stream.debug).toBe(true);
      const got = await run(checked.engine, PROMPT, { temperature: 0 }, 12);
      await checked.close();
      process.env.EYRIE_DEBUG = '0';
      const plain = await makeEngine('llama32', {}, streamOptions(backend, 2));
      expect(plain.stream.debug).toBe(false);
      expect(got).toEqual(await run(plain.engine, PROMPT, { temperature: 0 }, 12));
      await plain.close();
    });

    it('tells an overflow from what came in, names rows of strided memory, and goes on', async () => {
      using s = new Stream(streamOptions(backend, 1));
      using x = Tensor.from(s, 'f32', [2, 3], Float32Array.of(1, 2, 3, 4, 3e38, 6));
      using out = Tensor.empty(s, 'f32', [2, 3]);
      add({ x, y: x, out });
      await expect(out.read()).rejects.toMatchObject({
        code: 'EYRIE_NON_FINITE',
        message: expect.stringMatching(/^add: out\[1,1\] is Infinity, the first of 1 .* among 6; .*overflow/),
      });
      add({ x, y: x, alpha: -1, out });
      expect(await out.read()).toEqual(new Float32Array(6));
    });

    it('takes the -Infinity of masked logits for what it is', async () => {
      using s = new Stream(streamOptions(backend, 1));
      using x = Tensor.from(s, 'f32', [1, 4], Float32Array.of(1, 2, 3, 4));
      logits({ x, valid: 2 });
      expect(await x.read()).toEqual(
        Float32Array.of(1, 2, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY),
      );
    });
  });
}
