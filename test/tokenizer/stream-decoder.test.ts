import { describe, expect, type TestContext, test } from 'vitest';
import { sourceFromGguf, Tokenizer } from '../../lib/tokenizer/index.ts';
import type { TokenizerSource } from '../../lib/tokenizer/source.ts';
import {
  fakeGguf,
  type Loaded,
  load,
  loadFolder,
  loadGguf,
  random,
  readText,
  shared,
  TORTURE,
  tinyByteLevel,
} from './helpers.ts';

/** Real vocabularies of each kind of decoder. */
const REAL: [name: string, path: string, load: (path: string) => Promise<Loaded>][] = [
  ['SmolLM2: byte-level', 'models/smollm2-135m-instruct', loadFolder],
  ['gpt-2: byte-level, from GGUF', 'data/vocab/gpt-2.gguf', loadGguf],
  ['deepseek-coder: control tokens of wide letters', 'data/vocab/deepseek-coder.gguf', loadGguf],
  ['llama: SentencePiece with byte fallback', 'data/vocab/llama-spm.gguf', loadGguf],
  ['stories260k: a small SentencePiece', 'models/stories260k', loadFolder],
  ['tiny: words, joined by spaces', 'models/tiny', loadFolder],
];

const HALF = /\p{Cs}/u;

function stream({ tokenizer }: Loaded, ids: number[], skipSpecial: boolean): string[] {
  const decoder = tokenizer.decoder({ skipSpecial });
  return [...ids.map((id) => decoder.push(id)), decoder.finish()];
}

describe.each(REAL)('%s', (_name, relative, loadFrom) => {
  let loading: Promise<Loaded> | undefined;
  const loadReal = (context: TestContext) => {
    const path = shared(context, relative);
    loading ??= loadFrom(path);
    return loading;
  };

  test('random ids: equal to the library', async (context) => {
    const loaded = await loadReal(context);
    const { tokenizer, native } = loaded;
    const next = random(7);
    const lists = Array.from({ length: 2000 }, () =>
      // A few ids that no token has are among them.
      Array.from({ length: 1 + Math.floor(next() * 12) }, () =>
        Math.floor(next() * (tokenizer.vocabSize + 3)),
      ),
    );
    const replacement = native.tokenToId('\ufffd');
    const differ: string[] = [];
    let compared = 0;
    for (const skipSpecial of [true, false]) {
      const expected = await native.decodeBatch(lists, skipSpecial);
      for (const [i, ids] of lists.entries()) {
        // Runs of byte tokens that are no UTF-8 are the one place where results may differ.
        const broken = expected[i]!.includes('\ufffd') && !ids.includes(replacement ?? -1);
        if (broken && /"ByteFallback"/.test(loaded.source.json)) continue;
        compared++;
        const whole = tokenizer.decode(ids, { skipSpecial });
        if (whole === expected[i] && stream(loaded, ids, skipSpecial).join('') === whole) continue;
        differ.push(`${ids.join()}: ${JSON.stringify(expected[i])}, not ${JSON.stringify(whole)}`);
      }
    }
    expect(differ).toEqual([]);
    expect(compared).toBeGreaterThan(900);
  });

  test('text: equal to the library, and never half a character', async (context) => {
    const loaded = await loadReal(context);
    const { native } = loaded;
    const next = random(11);
    const alphabet = [...TORTURE.join('')];
    const mixed = Array.from({ length: 800 }, () =>
      Array.from(
        { length: 1 + Math.floor(next() * 20) },
        () => alphabet[Math.floor(next() * alphabet.length)],
      ).join(''),
    );
    const texts = [...TORTURE, ...mixed].filter((text) => text !== '');
    const encodings = await native.encodeBatch(texts, { addSpecialTokens: false });
    const lists = encodings.map((encoding) => encoding.getIds());
    const expected = await native.decodeBatch(lists, false);
    for (const [i, ids] of lists.entries()) {
      const parts = stream(loaded, ids, false);
      expect(parts.join(''), texts[i]).toBe(expected[i]);
      expect(parts.filter((part) => HALF.test(part))).toEqual([]);
    }
  });

  test('the bytes of tokens are the bytes of the text', async (context) => {
    const { tokenizer } = await loadReal(context);
    for (const text of ['Once upon a time', '4 + 7 -> 1', 'x 🦀 é']) {
      const ids = await tokenizer.encode(text, { bos: false });
      const bytes = Buffer.concat(ids.map((id) => tokenizer.tokenBytes(id))).toString('utf8');
      expect(bytes.replace(/^ /, '')).toBe(tokenizer.decode(ids, { skipSpecial: false }));
    }
  });
});

test('a long text in one stream', async (context) => {
  const loaded = await loadFolder(shared(context, 'models/smollm2-135m-instruct'));
  const text = readText(shared(context, 'data/wikitext2-valid.txt')).slice(0, 300_000);
  const ids = await loaded.tokenizer.encode(text);
  expect(stream(loaded, ids, true).join('')).toBe(text);
});

describe('one character over several tokens', () => {
  test('comes with its last byte', async () => {
    const loaded = await load(sourceFromGguf(fakeGguf(tinyByteLevel())));
    const ids = await loaded.tokenizer.encode('a🦀é');
    expect(stream(loaded, ids, true)).toEqual(['a', '', '', '', '🦀', '', 'é', '']);
  });

  test('that stays incomplete is one U+FFFD, and the decoder starts anew', async () => {
    const { tokenizer } = await load(sourceFromGguf(fakeGguf(tinyByteLevel())));
    const [a, ...crab] = await tokenizer.encode('a🦀');
    const decoder = tokenizer.decoder();
    expect(crab.slice(0, 3).map((id) => decoder.push(id))).toEqual(['', '', '']);
    expect(decoder.finish()).toBe('\ufffd');
    expect(decoder.push(crab[0]!) + decoder.push(a!) + decoder.finish()).toBe('\ufffda');
    expect(decoder.finish()).toBe('');
  });

  test('broken byte tokens keep their valid neighbours', async () => {
    const tokens = ['<unk>', '<0xF0>', '<0x9F>', '<0x41>', '▁b'];
    const source = sourceFromGguf(
      fakeGguf({
        'tokenizer.ggml.model': 'llama',
        'tokenizer.ggml.tokens': tokens,
        'tokenizer.ggml.token_type': [2, 6, 6, 6, 1],
        'tokenizer.ggml.scores': [0, 0, 0, 0, -1],
      }),
    );
    const { tokenizer, native } = await load(source);
    expect(tokenizer.decode([3, 1, 2, 4])).toBe('A\ufffd b');
    expect(await native.decode([3, 1, 2, 4], false)).toBe('\ufffd\ufffd\ufffd b');
  });
});

describe('other decoders, against the library', () => {
  const WORDS = ['▁he', 'llo', '▁', '.', "n't", '##s', '▁▁x', 'é', 'do', 'not', '##', 'Ġa'];
  const DECODERS: [name: string, decoder: object | null][] = [
    ['none', null],
    ['Metaspace, always', { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true }],
    ['Metaspace, never', { type: 'Metaspace', replacement: '▁', prepend_scheme: 'never', split: true }],
    ['Metaspace, as it was', { type: 'Metaspace', replacement: '▁', add_prefix_space: true }],
    ['WordPiece', { type: 'WordPiece', prefix: '##', cleanup: true }],
    ['WordPiece as it is', { type: 'WordPiece', prefix: '##', cleanup: false }],
    [
      'ByteLevel in a sequence',
      {
        type: 'Sequence',
        decoders: [{ type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true }],
      },
    ],
    [
      'Strip of two',
      {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 2, stop: 0 },
        ],
      },
    ],
  ];

  const sourceWith = (decoder: object | null): TokenizerSource => ({
    json: JSON.stringify({
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder,
      model: {
        type: 'WordLevel',
        vocab: Object.fromEntries(WORDS.map((word, id) => [word, id])),
        unk_token: '.',
      },
    }),
    eosIds: [],
    bosId: null,
    addBos: false,
    chatTemplate: null,
    templateVars: {},
  });

  test.each(DECODERS)('%s', async (_name, decoder) => {
    const loaded = await load(sourceWith(decoder));
    const next = random(3);
    const lists = Array.from({ length: 400 }, () =>
      Array.from({ length: 1 + Math.floor(next() * 5) }, () => Math.floor(next() * WORDS.length)),
    );
    const expected = await loaded.native.decodeBatch(lists, false);
    for (const [i, ids] of lists.entries()) {
      expect(stream(loaded, ids, true).join(''), JSON.stringify(ids.map((id) => WORDS[id]))).toBe(
        expected[i],
      );
    }
  });

  test('one that is not supported is named', async () => {
    const tokenizer = await Tokenizer.create(
      sourceWith({ type: 'CTC', pad_token: '.', word_delimiter_token: '|', cleanup: true }),
    );
    expect(() => tokenizer.decoder()).toThrow(
      expect.objectContaining({ code: 'EYRIE_TOKENIZER', message: expect.stringContaining('got CTC') }),
    );
  });
});
