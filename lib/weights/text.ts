// Fatal, so that broken bytes are seen; ignoreBOM, which in spite of its name keeps U+FEFF in the text.
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** UTF-8 bytes to text, exactly; null when they are not UTF-8. */
export function decodeText(bytes: Buffer, start = 0, end = bytes.length): string | null {
  // Twice as fast as the decoder for the short strings of a vocabulary. It puts U+FFFD for what is broken,
  // so that text without one is exact; with one, the decoder tells whether the file has it or the conversion made it.
  const text = bytes.toString('utf8', start, end);
  if (!text.includes('\ufffd')) return text;
  try {
    return decoder.decode(bytes.subarray(start, end));
  } catch {
    return null;
  }
}
