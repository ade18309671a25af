import { describe, expect, it } from 'vitest';
import { EyrieError } from '../../lib/errors.ts';
import { openWeights } from '../../lib/weights/index.ts';
import { gguf, safetensors, temporaryFolder, V } from './write.ts';

const { write } = temporaryFolder();

/** mulberry32: small, seeded, the same everywhere. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below;
  };
}

const EXTREMES = [
  0n,
  1n,
  7n,
  31n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 40n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

function mutate(original: Buffer, below: (n: number) => number): Buffer {
  let bytes: Buffer = Buffer.from(original);
  const pick = (n: number) => Math.floor(below(n));
  for (let edits = 1 + pick(3); edits > 0; edits--) {
    if (bytes.length < 9) break;
    const kind = pick(6);
    const at = pick(bytes.length);
    const extreme = EXTREMES[pick(EXTREMES.length)]!;
    if (kind === 0) bytes[at]! ^= 1 << pick(8);
    else if (kind === 1) bytes[at] = pick(256);
    else if (kind === 2) bytes.writeUInt32LE(Number(extreme & 0xffffffffn), pick(bytes.length - 4));
    else if (kind === 3) bytes.writeBigUInt64LE(extreme, pick(bytes.length - 8));
    else if (kind === 4) bytes = bytes.subarray(0, at);
    else bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(pick(bytes.length))]);
  }
  return bytes;
}

const ggufFile = gguf({
  pairs: [
    ['general.architecture', V.string, 'llama'],
    ['general.alignment', V.u32, 32],
    ['llama.block_count', V.u32, 2],
    ['llama.eps', V.f32, 1e-5],
    ['big', V.u64, 2n ** 40n],
    ['flag', V.bool, 1],
    ['tokens', V.array, { of: V.string, items: ['<s>', 'a', 'bc', '\ufeff'] }],
    ['scores', V.array, { of: V.f32, items: [0, -1, -2, -3] }],
    ['flags', V.array, { of: V.bool, items: [0, 1, 1] }],
    [
      'nested',
      V.array,
      {
        of: V.array,
        items: [
          { of: V.i16, items: [1, 2] },
          { of: V.string, items: ['x'] },
        ],
      },
    ],
  ],
  tensors: [
    { name: 'token_embd.weight', dims: [32, 4], type: 8, bytes: 136 },
    { name: 'blk.0.attn_norm.weight', dims: [32] },
    { name: 'blk.0.ffn_up.weight', dims: [32, 2], type: 3, bytes: 40 },
  ],
});
const safetensorsFile = safetensors(
  {
    __metadata__: { format: 'pt' },
    'model.embed.weight': { dtype: 'BF16', shape: [4, 8], data_offsets: [0, 64] },
    'model.norm.weight': { dtype: 'F32', shape: [8], data_offsets: [64, 96] },
    'model.mask': { dtype: 'BOOL', shape: [2, 2], data_offsets: [96, 100] },
  },
  100,
);

const targets = [
  { name: 'model.gguf', original: ggufFile, code: 'EYRIE_GGUF', seed: 1, rounds: 1500 },
  { name: 'model.safetensors', original: safetensorsFile, code: 'EYRIE_SAFETENSORS', seed: 2, rounds: 1000 },
];

describe('mutated files', () => {
  it.each(targets)('$name: opens or refuses with $code', async ({ name, original, code, seed, rounds }) => {
    const below = random(seed);
    // What the process ever held at once, in kilobytes: no allocation hides from it, however short-lived.
    await openWeights(write(name, original));
    const before = process.resourceUsage().maxRSS;
    let opened = 0;
    let slowest = 0;
    for (let round = 0; round < rounds; round++) {
      const content = mutate(original, below);
      const path = write(name, content);
      const start = performance.now();
      try {
        const file = await openWeights(path);
        opened++;
        for (const { offset, bytes } of file.tensors.values()) {
          expect(offset + bytes).toBeLessThanOrEqual(content.length);
        }
        for (const key of file.metadata?.keys() ?? []) file.metadata!.get(key);
      } catch (error) {
        if (!(error instanceof EyrieError) || error.code !== code) {
          throw new Error(`seed ${seed}, round ${round}: ${content.toString('base64')}`, { cause: error });
        }
      }
      slowest = Math.max(slowest, performance.now() - start);
    }
    // Both outcomes must occur, or the mutations are too wild or too tame to test anything.
    expect(opened).toBeGreaterThan(rounds / 50);
    expect(opened).toBeLessThan(rounds / 2);
    expect(slowest).toBeLessThan(1000);
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(64 * 1024);
  });
});
