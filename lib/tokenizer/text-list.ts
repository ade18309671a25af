import type { JsonText } from './json-text.ts';

/**
 * Many short texts, such as a vocabulary as it lies in a file, without a JavaScript string for each: a hundred thousand strings that
 * live through a garbage collection make V8's young generation grow to its limit of 32 MB, and it stays that large.
 */
export interface TextList {
  readonly length: number;
  /** The text at `i`; U+FFFD stands for what is not UTF-8. */
  text(i: number): string;
  /** Appends the text at `i` to `out` as a JSON string. */
  quote(i: number, out: JsonText): void;
  /** Places whose text is empty or stands at an earlier place too. */
  unusable(): Set<number>;
}

/** Text i is bytes[starts[i]..ends[i]). */
export interface PackedTexts {
  bytes: Uint8Array;
  starts: Uint32Array;
  ends: Uint32Array;
}

export function packedTexts({ bytes: view, starts, ends }: PackedTexts): TextList {
  const bytes = Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  const text = (i: number): string => bytes.toString('utf8', starts[i], ends[i]);
  return {
    length: starts.length,
    text,
    quote: (i, out) => {
      out.quotedUtf8(bytes, starts[i]!, ends[i]!);
    },
    unusable: () => repeated(bytes, starts, ends, text),
  };
}

/** Places of texts that are empty or known already, by a hash table with open addressing. */
function repeated(
  bytes: Buffer,
  starts: Uint32Array,
  ends: Uint32Array,
  text: (i: number) => string,
): Set<number> {
  const found = new Set<number>();
  const broken = new Set<string>();
  const mask = 2 ** Math.ceil(Math.log2(2 * starts.length + 2)) - 1;
  const table = new Int32Array(mask + 1).fill(-1);
  for (let i = 0; i < starts.length; i++) {
    const [start, end] = [starts[i]!, ends[i]!];
    if (start === end) {
      found.add(i);
      continue;
    }
    let hash = 0x811c9dc5; // FNV-1a
    let ascii = true;
    for (let at = start; at < end; at++) {
      const byte = bytes[at]!;
      hash = Math.imul(hash ^ byte, 0x01000193);
      if (byte > 127) ascii = false;
    }
    if (!ascii && text(i).includes('\ufffd')) {
      // Different bytes that are not UTF-8 may read the same.
      if (broken.has(text(i))) found.add(i);
      broken.add(text(i));
      continue;
    }
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const other = table[slot]!;
      if (other < 0) {
        table[slot] = i;
        break;
      }
      if (bytes.compare(bytes, starts[other], ends[other], start, end) === 0) {
        found.add(i);
        break;
      }
    }
  }
  return found;
}
