// The definitions that other tests rest on, and the kernels, against what the gguf package makes of the same bytes.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { embed, packWeight, Tensor } from '../../lib/ops/index.ts';
import { describeLevels } from '../helpers/describe-op.ts';
import { firstDifference } from '../helpers/floats.ts';
import { BLOCK_FORMATS, elements } from './blocks.ts';
import { DEVICE_FILE_FORMATS } from './matrix.ts';

const golden = JSON.parse(readFileSync(join(import.meta.dirname, '../golden/blocks.json'), 'utf8')) as Record<
  string,
  { bytes: string; values: string }
>;
const bytesOf = (format: string) => new Uint8Array(Buffer.from(golden[format]!.bytes, 'base64'));
const valuesOf = (format: string) =>
  new Float32Array(new Uint8Array(Buffer.from(golden[format]!.values, 'base64')).buffer);

describe('block formats as the tests define them', () => {
  it.each(BLOCK_FORMATS)('%s: what the gguf package says', (format) => {
    const got = elements(format, bytesOf(format)).map(({ q, zero, d, m }) =>
      Math.fround(zero || m === 0 ? d * (q + zero) : d * q + m),
    );
    expect(firstDifference(Float32Array.from(got), valuesOf(format))).toBe(-1);
  });
});

describeLevels('block formats, packed', (stream, backend) => {
  for (const format of BLOCK_FORMATS) {
    if (backend.cuda && !DEVICE_FILE_FORMATS.includes(format)) continue;
    it(`${format}: what the gguf package says`, async () => {
      const bytes = bytesOf(format);
      using src = Tensor.from(stream(), 'u8', [bytes.length], bytes);
      using w = packWeight(src, format, [2, 256]);
      using ids = Tensor.from(stream(), 'i32', [2], Int32Array.of(0, 1));
      using out = embed({ table: w, ids });
      expect(firstDifference(await out.read(), valuesOf(format))).toBe(-1);
    });
  }
});
