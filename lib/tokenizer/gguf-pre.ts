/**
 * How text is cut into words before byte-level BPE. A GGUF file only carries a name (`tokenizer.ggml.pre`); what the
 * name means stands here, as the `pre_tokenizer` that the model's own tokenizer.json has.
 */
export interface PreTokenizer {
  /** Steps of a `pre_tokenizer` of type Sequence. */
  steps: object[];
  /** A word that is in the vocabulary as a whole is taken as it is. */
  ignoreMerges?: boolean;
  /** Text starts with the BOS token unless the file says otherwise. */
  addBos?: boolean;
  /** The model's tokenizer.json normalizes to NFC. */
  nfc?: boolean;
}

const split = (regex: string) => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior: 'Isolated',
  invert: false,
});
const byteLevel = (regex: boolean) => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: regex,
});
const digits = { type: 'Digits', individual_digits: true };

/** Splits by each regex in turn, then maps bytes to the printable alphabet. */
const bySplits = (...regexes: string[]) => [...regexes.map(split), byteLevel(false)];

// The pieces that the regexes of the GPT-4 line are made of.
const CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const SPACES = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const SYMBOLS = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*';
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const BEFORE_WORD = '[^\\r\\n\\p{L}\\p{N}]?';

const GPT2 = "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const gpt4 = (number: string) => [CONTRACTION, `${BEFORE_WORD}\\p{L}+`, number, SYMBOLS, SPACES].join('|');
const LLAMA3 = gpt4('\\p{N}{1,3}');
const QWEN2 = gpt4('\\p{N}');
const QWEN35 = [
  CONTRACTION,
  `${BEFORE_WORD}[\\p{L}\\p{M}]+`,
  '\\p{N}',
  ' ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*',
  SPACES,
].join('|');

/** Words that change from upper to lower case are one; from lower to upper they are cut. */
const cased = (upper: string, lower: string, suffix: string) => [
  `${BEFORE_WORD}${upper}*${lower}+${suffix}`,
  `${BEFORE_WORD}${upper}+${lower}*${suffix}`,
];
const SYMBOLS_OR_PATH = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*';
const O200K = [...cased(UPPER, LOWER, `${CONTRACTION}?`), '\\p{N}{1,3}', SYMBOLS_OR_PATH, SPACES].join('|');
const TEKKEN = [...cased(UPPER, LOWER, ''), '\\p{N}', SYMBOLS_OR_PATH, SPACES].join('|');
const noHan = (set: string) => `${set.slice(0, -1)}&&[^\\p{Han}]]`;
const KIMI = [
  '\\p{Han}+',
  ...cased(noHan(UPPER), noHan(LOWER), `${CONTRACTION}?`),
  '\\p{N}{1,3}',
  SYMBOLS,
  SPACES,
].join('|');
const BAILING = `'(?i:[sdmt]|ll|ve|re)|${BEFORE_WORD}\\p{L}+|\\p{N}|${SYMBOLS}|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+`;
const SEED = `${CONTRACTION}|${BEFORE_WORD}\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|${SPACES}`;

const DEEPSEEK3 = [
  '\\p{N}{1,3}',
  '[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+',
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|' +
    ` ?[\\p{P}\\p{S}]+[\\r\\n]*|${SPACES}`,
];
const CJK = '[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+';
// Letters with case, as Unicode had them when the tokenizer was made.
const DEEPSEEK_LETTERS =
  'A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373' +
  '\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f' +
  '\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77' +
  '\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d' +
  '\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4' +
  '\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139' +
  '\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d' +
  '\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a' +
  '\uff41-\uff5a\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}' +
  '\u{118a0}-\u{118df}\u{1e900}-\u{1e943}';
const DEEPSEEK_LLM = [
  '[\\r\\n]',
  `\\s?[${DEEPSEEK_LETTERS}]+`,
  '\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+',
  '\\s+$',
  CJK,
  '\\p{N}+',
];
const DEEPSEEK_CODER = ['[\\r\\n]', '\\s?\\p{L}+', '\\s?\\p{P}+', CJK, '\\p{N}'];
const NOT_PUNCTUATION = ' ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+';
const UNNAMED = ['[\\p{P}\\$\\+<=>\\^~\\|]+', GPT2, '\\p{N}+', '[0-9][0-9][0-9]'];

const gpt2: PreTokenizer = { steps: [byteLevel(true)] };
const digitsGpt2: PreTokenizer = { steps: [digits, byteLevel(true)] };
const llama3: PreTokenizer = { steps: bySplits(LLAMA3), ignoreMerges: true, addBos: true };
const qwen2: PreTokenizer = { steps: bySplits(QWEN2), nfc: true };
const gpt4o: PreTokenizer = { steps: bySplits(O200K) };
const deepseek3: PreTokenizer = { steps: bySplits(...DEEPSEEK3) };
const bailing: PreTokenizer = { steps: bySplits(BAILING) };
const bloom: PreTokenizer = { steps: bySplits(NOT_PUNCTUATION) };

const ROWS: [names: string, rule: PreTokenizer][] = [
  ['default', { steps: bySplits(...UNNAMED) }],
  ['gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum exaone4 jais trillion', gpt2],
  ['granite-docling', gpt2],
  ['mpt olmo', { ...gpt2, nfc: true }],
  ['starcoder refact smollm codeshell exaone minerva-7b', digitsGpt2],
  ['command-r', { ...digitsGpt2, nfc: true }],
  ['llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2', llama3],
  ['smaug-bpe dbrx glm4 chatglm-bpe', { steps: bySplits(LLAMA3) }],
  ['qwen2', qwen2],
  ['stablelm2 deepseek-r1-qwen megrez kormo f2llmv2 hunyuan grok-2', { steps: bySplits(QWEN2) }],
  ['qwen35', { steps: bySplits(QWEN35), nfc: true }],
  ['gpt-4o llama4 kanana2 talkie minimax-m2', gpt4o],
  ['tekken', { steps: bySplits(TEKKEN), ignoreMerges: true, addBos: true }],
  ['kimi-k2', { steps: bySplits(KIMI) }],
  ['deepseek-llm', { steps: bySplits(...DEEPSEEK_LLM) }],
  ['deepseek-coder', { steps: bySplits(...DEEPSEEK_CODER) }],
  ['deepseek-v3 hunyuan-dense', deepseek3],
  [
    'falcon',
    { steps: [{ type: 'Punctuation', behavior: 'Contiguous' }, byteLevel(true), split('[0-9][0-9][0-9]')] },
  ],
  ['bailingmoe bailingmoe2 llada-moe', bailing],
  ['seed-coder', { steps: bySplits(SEED) }],
  ['bloom gpt3-finnish poro-chat', bloom],
  ['viking', { steps: bySplits(NOT_PUNCTUATION, '\\p{N}') }],
];

/** Every known name of `tokenizer.ggml.pre`. */
export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map(
  ROWS.flatMap(([names, rule]) => names.split(' ').map((name): [string, PreTokenizer] => [name, rule])),
);
