// Writes a GGUF file whose matrices are f32 with exactly the values of another one's: what quantising at load is measured on where only a quantised
// file is at hand.
//   node bench/dequantise.mjs IN.gguf OUT.gguf
import { open, readFile } from 'node:fs/promises';
import { openWeights } from '../dist/internals.js';
import { embed, packWeight, Stream, Tensor } from '../dist/ops/index.js';
import { descriptions, padding, TYPES, text } from './gguf-write.mjs';

const [from, to] = process.argv.slice(2);
if (!to) {
  console.error('usage: node bench/dequantise.mjs IN.gguf OUT.gguf');
  process.exit(2);
}
const weights = await openWeights(from);
const bytes = await readFile(from);
const stream = new Stream({ device: 'cpu' });

const tensors = [...weights.tensors.values()].sort((a, b) => a.offset - b.offset);
// Everything before the first description of a tensor stays as it is.
const begin = Math.min(...tensors.map((t) => bytes.indexOf(text(t.name))));
const infos = descriptions(
  tensors.map((t) => ({
    name: t.name,
    shape: t.shape,
    type: TYPES.f32,
    bytes: 4 * t.shape.reduce((a, b) => a * b, 1),
  })),
);
const head = Buffer.concat([bytes.subarray(0, begin), ...infos]);
const file = await open(to, 'w');
await file.write(Buffer.concat([head, padding(head.length)]));
for (const t of tensors) {
  const raw = bytes.subarray(t.offset, t.offset + t.bytes);
  let data = raw;
  if (t.dtype !== 'f32') {
    const [n, k] = t.shape;
    const src = Tensor.from(stream, 'u8', [t.bytes], new Uint8Array(raw));
    const table = packWeight(src, t.dtype, [n, k]);
    const parts = [];
    for (let row = 0; row < n; row += 1024) {
      const rows = Math.min(1024, n - row);
      const ids = Tensor.from(
        stream,
        'i32',
        [rows],
        Int32Array.from({ length: rows }, (_, i) => row + i),
      );
      const out = embed({ table, ids });
      const values = await out.read();
      parts.push(Buffer.from(values.buffer, values.byteOffset, values.byteLength));
      out.dispose();
      ids.dispose();
    }
    data = Buffer.concat(parts);
    src.dispose();
    table.dispose();
  }
  await file.write(Buffer.concat([data, padding(data.length)]));
}
await file.close();
stream.dispose();
