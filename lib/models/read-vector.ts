import { open } from 'node:fs/promises';
import { EyrieError } from '../errors.ts';
import type { TensorInfo } from '../weights/index.ts';

/** The values of a small f32 tensor that the host needs (rotary divisors). */
export async function readVector(info: TensorInfo): Promise<Float32Array> {
  if (info.dtype !== 'f32' || info.bytes > 1 << 20) {
    throw new EyrieError(
      'EYRIE_UNSUPPORTED',
      `${info.file}: tensor "${info.name}" is ${info.dtype} of ${info.bytes} bytes, expected a short f32 vector`,
    );
  }
  const file = await open(info.file, 'r');
  try {
    const out = new Float32Array(info.bytes / 4);
    const { bytesRead } = await file.read(new Uint8Array(out.buffer), 0, info.bytes, info.offset);
    if (bytesRead !== info.bytes)
      throw new EyrieError('EYRIE_FILE', `${info.file} ended while "${info.name}" was read`);
    return out;
  } finally {
    await file.close();
  }
}
