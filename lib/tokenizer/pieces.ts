import { EyrieError } from '../errors.ts';

/**
 * What one token adds to a text, as bytes. A rule is read once from the `decoder` section of a tokenizer.json; it says
 * the same as the decoder of the `tokenizers` library, token by token instead of for a whole list.
 */
export interface PieceRule {
  /** The bytes of a token that follows another one. */
  piece(token: string): Uint8Array;
  /** The bytes of a token that starts the text. */
  first(token: string): Uint8Array;
  /** Text that is taken off the start of the whole, at most `count` times. */
  strip: { text: string; count: number };
}

interface DecoderJson {
  type: string;
  [key: string]: unknown;
}

const encoder = new TextEncoder();
const utf8 = (text: string): Uint8Array => encoder.encode(text);
const NOTHING = { text: ' ', count: 0 };

export function pieceRule(decoder: unknown): PieceRule {
  const json = decoder as DecoderJson | null | undefined;
  // Without a decoder, the library joins tokens with spaces.
  if (!json) return { piece: (token) => utf8(` ${token}`), first: utf8, strip: NOTHING };
  const steps = json.type === 'Sequence' ? (json.decoders as DecoderJson[]) : [json];
  const only = steps.length === 1 ? steps[0]! : null;
  if (only?.type === 'ByteLevel') return { piece: byteLevelBytes, first: byteLevelBytes, strip: NOTHING };
  if (only?.type === 'Metaspace') return metaspaceRule(only);
  if (only?.type === 'WordPiece') return wordPieceRule(only);
  return sentencePieceRule(steps);
}

/** Replace…, ByteFallback, Fuse, Strip: the decoder of Llama, Gemma and their kin. */
function sentencePieceRule(steps: DecoderJson[]): PieceRule {
  const replacements: [from: string, to: string][] = [];
  let byteFallback = false;
  let fused = false;
  let strip = NOTHING;
  for (const step of steps) {
    const pattern = (step.pattern as { String?: string } | undefined)?.String;
    if (step.type === 'Replace' && pattern !== undefined && !byteFallback && !fused) {
      replacements.push([pattern, String(step.content)]);
    } else if (step.type === 'ByteFallback' && !fused) {
      byteFallback = true;
    } else if (step.type === 'Fuse') {
      fused = true;
    } else if (step.type === 'Strip' && fused && step.stop === 0) {
      strip = { text: String(step.content), count: Number(step.start) };
    } else {
      throw unsupported(step.type);
    }
  }
  const piece = (token: string): Uint8Array => {
    const byte = byteFallback ? /^<0x([0-9A-Fa-f]{2})>$/.exec(token) : null;
    if (byte) return Uint8Array.of(Number.parseInt(byte[1]!, 16));
    let text = token;
    for (const [from, to] of replacements) text = text.replaceAll(from, () => to);
    return utf8(text);
  };
  return { piece, first: piece, strip };
}

function metaspaceRule(json: DecoderJson): PieceRule {
  const mark = String(json.replacement);
  const piece = (token: string) => utf8(token.replaceAll(mark, ' '));
  const prefixed =
    json.prepend_scheme === undefined ? json.add_prefix_space : json.prepend_scheme !== 'never';
  return { piece, first: prefixed ? (token) => utf8(token.replaceAll(mark, '')) : piece, strip: NOTHING };
}

function wordPieceRule(json: DecoderJson): PieceRule {
  const prefix = String(json.prefix);
  const clean = json.cleanup ? cleanUp : (text: string) => text;
  return {
    piece: (token) => utf8(clean(token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`)),
    first: (token) => utf8(clean(token)),
    strip: NOTHING,
  };
}

const CLEAN_UP: [from: string, to: string][] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [' do not', " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

function cleanUp(text: string): string {
  let result = text;
  for (const [from, to] of CLEAN_UP) result = result.replaceAll(from, to);
  return result;
}

/** Byte-level BPE writes each byte as a printable character; this is the way back. */
const BYTE_OF_CHAR: ReadonlyMap<string, number> = (() => {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  const map = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) map.set(String.fromCharCode(printable(byte) ? byte : next++), byte);
  return map;
})();

function byteLevelBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_CHAR.get(token[i]!);
    // A token with any other character stands for itself, as added tokens do.
    if (byte === undefined) return utf8(token);
    bytes[i] = byte;
  }
  return bytes;
}

function unsupported(type: string): EyrieError {
  return new EyrieError(
    'EYRIE_TOKENIZER',
    `decoder of tokenizer.json: expected ByteLevel, Metaspace, WordPiece, or a sequence of Replace (a string), ` +
      `ByteFallback, Fuse and Strip (at the start), got ${type} in a place where it is not supported`,
  );
}
