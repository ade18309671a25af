import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { native } from '../../lib/native/load.ts';
import {
  cast,
  type DType,
  FILE_FORMATS,
  type FileFormat,
  MappedFile,
  packWeight,
  Stream,
} from '../../lib/ops/index.ts';
import { openWeights, type WeightFile } from '../../lib/weights/index.ts';
import { Random } from '../helpers/random.ts';

// Files with damage of a known seed go through all of loading: header, mapping, packing and casting. Whatever happens must be
// an error of ours. EYRIE_FUZZ=20000 runs more of them.
const rounds = Number(process.env.EYRIE_FUZZ ?? 200);
const golden = join(import.meta.dirname, '../golden');
const folder = mkdtempSync(join(tmpdir(), 'eyrie-fuzz-'));
afterAll(() => rmSync(folder, { recursive: true }));

const PACKED = new Set<string>(FILE_FORMATS);
const FLOATS = new Set<string>(['f32', 'f16', 'bf16']);
const ALLOWED = ['EYRIE_GGUF', 'EYRIE_SAFETENSORS', 'EYRIE_FILE', 'EYRIE_SHAPE'];

const samples = [
  ...readdirSync(join(golden, 'gguf'))
    .filter((name) => name.endsWith('.gguf'))
    .map((name) => ({ name, path: join(golden, 'gguf', name), extension: 'gguf' })),
  ...['llama3', 'qwen2', 'smollm3'].map((name) => ({
    name: `${name}.safetensors`,
    path: join(golden, 'models', name, 'model.safetensors'),
    extension: 'safetensors',
  })),
];

const EXTREMES = [
  0n,
  1n,
  31n,
  32n,
  255n,
  1n << 31n,
  (1n << 32n) - 1n,
  1n << 40n,
  1n << 53n,
  1n << 63n,
  (1n << 64n) - 1n,
];

/** A damaged copy: mostly in the header, where the meaning is; sometimes cut short. */
function damage(original: Buffer, r: Random): Buffer {
  const bytes = Buffer.from(original);
  for (let n = r.integer(1, 4); n > 0; n--) {
    // Squaring a uniform number favours the front.
    const at = Math.floor(r.uniform() ** 2 * (bytes.length - 8));
    const kind = r.integer(0, 5);
    if (kind === 0) bytes[at] = bytes[at]! ^ (1 << r.integer(0, 8));
    else if (kind === 1) bytes[at] = r.integer(0, 256);
    else if (kind === 2) bytes.writeBigUInt64LE(EXTREMES[r.integer(0, EXTREMES.length)]!, at);
    else if (kind === 3) bytes.copyWithin(at, r.integer(0, bytes.length), r.integer(0, bytes.length));
    else bytes.writeUInt32LE(r.integer(0, 64), at);
  }
  return r.integer(0, 10) === 0 ? bytes.subarray(0, r.integer(0, bytes.length)) : bytes;
}

/** Packs or casts every tensor of a supported format, as loading a model does. Returns how many. */
async function loadAll(stream: Stream, file: WeightFile): Promise<number> {
  let loaded = 0;
  const maps = new Map(file.files.map(({ path, bytes }) => [path, bytes]));
  for (const [path, size] of maps) {
    using mapped = new MappedFile(stream, path, size);
    for (const { dtype, shape, offset, bytes, file: source } of file.tensors.values()) {
      if (source !== path || bytes === 0) continue;
      const [rows, columns] = shape;
      if (shape.length === 2 && PACKED.has(dtype)) {
        using view = mapped.view('u8', [bytes], offset);
        packWeight(view, dtype as FileFormat, [rows!, columns!]).dispose();
      } else if (FLOATS.has(dtype)) {
        using view = mapped.view(dtype as DType, [shape.reduce((a, b) => a * b, 1)], offset);
        cast(view, 'f32').dispose();
      } else continue;
      loaded++;
    }
    await stream.sync();
  }
  return loaded;
}

describe('damaged files', () => {
  it.each(samples)('$name loads or is refused', async ({ path, extension, name }) => {
    const original = readFileSync(path);
    using stream = new Stream({ threads: 2 });
    const before = native().memory().tensors;
    expect(await loadAll(stream, await openWeights(path))).toBeGreaterThan(5);
    const target = join(folder, `model.${extension}`);
    let opened = 0;
    for (let round = 0; round < Math.ceil(rounds / samples.length); round++) {
      const seed = round * 1000 + name.length;
      writeFileSync(target, damage(original, new Random(seed)));
      try {
        const file = await openWeights(target);
        opened++;
        await loadAll(stream, file);
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        expect(ALLOWED, `${name}, seed ${seed}: ${message}`).toContain(code);
      }
    }
    expect(native().memory().tensors).toBe(before);
    if (rounds >= 200) expect(opened).toBeGreaterThan(0);
  });
});
