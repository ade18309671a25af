// The little of GGUF that the benchmarks write: a header of known values, then tensors in order.
export const ALIGNMENT = 32;
export const TYPES = { f32: 0, bf16: 30 };

/** u64 length and bytes, as GGUF has its strings. */
export function text(s) {
  const b = Buffer.from(s);
  return Buffer.concat([u64(b.length), b]);
}
export const u32 = (n) => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(n);
  return b;
};
export const u64 = (n) => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(n));
  return b;
};
const f32 = (x) => {
  const b = Buffer.alloc(4);
  b.writeFloatLE(x);
  return b;
};
export const padded = (n) => Math.ceil(n / ALIGNMENT) * ALIGNMENT;
export const padding = (n) => Buffer.alloc(padded(n) - n);

/** The types of metadata that are written: `{ u32: 5 }`, `{ f32: 1e-5 }`, `{ string: 'llama' }`, `{ strings: [] }`, `{ i32s: [] }`. */
function value(v) {
  const [[type, x]] = Object.entries(v);
  switch (type) {
    case 'u32':
      return [u32(4), u32(x)];
    case 'f32':
      return [u32(6), f32(x)];
    case 'string':
      return [u32(8), text(x)];
    case 'strings':
      return [u32(9), u32(8), u64(x.length), ...x.map(text)];
    case 'i32s':
      return [u32(9), u32(5), u64(x.length), Buffer.from(Int32Array.from(x).buffer)];
    default:
      throw new Error(`no such type of metadata: ${type}`);
  }
}

/** Descriptions of tensors, in the order in which their data follow. @param {{ name: string, shape: number[], type: number, bytes: number }[]} tensors */
export function descriptions(tensors) {
  let offset = 0;
  return tensors.map((t) => {
    const dims = [...t.shape].reverse();
    const at = offset;
    offset += padded(t.bytes);
    return Buffer.concat([text(t.name), u32(dims.length), ...dims.map(u64), u32(t.type), u64(at)]);
  });
}

/** Everything before the data, padded. */
export function header(metadata, tensors) {
  const pairs = Object.entries(metadata).flatMap(([key, v]) => [text(key), ...value(v)]);
  const head = Buffer.concat([
    ...[Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(Object.keys(metadata).length)],
    ...pairs,
    ...descriptions(tensors),
  ]);
  return Buffer.concat([head, padding(head.length)]);
}
