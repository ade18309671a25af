import { Tokenizer as NativeTokenizer } from 'tokenizers';
import { describe, expect, test } from 'vitest';
import { PRE_TOKENIZERS } from '../../lib/tokenizer/gguf-pre.ts';
import { type ChatMessage, ChatTemplate, sourceFromGguf, Tokenizer } from '../../lib/tokenizer/index.ts';
import { fakeGguf, loadFolder, loadGguf, readText, shared, TORTURE, tinyByteLevel } from './helpers.ts';

describe('vectors', () => {
  // llama-bpe and qwen2 come without their .gguf in the usual material, and are then skipped.
  for (const name of ['gpt-2', 'deepseek-coder', 'llama-spm', 'llama-bpe', 'qwen2']) {
    test(name, async (context) => {
      const path = shared(context, `data/vocab/${name}.gguf`);
      const { tokenizer } = await loadGguf(path);
      const texts = readText(`${path}.inp`).split('\n__ggml_vocab_test__\n');
      const lines = readText(`${path}.out`).split('\n');
      expect(texts.length).toBeGreaterThan(40);
      for (const [i, text] of texts.entries()) {
        const ids = await tokenizer.encode(text, { bos: false });
        expect(ids.join(' '), JSON.stringify(text)).toBe(lines[i]!.trim());
      }
    });
  }
});

describe('SmolLM2', () => {
  const folder = 'models/smollm2-135m-instruct';

  test('the GGUF says the same as tokenizer.json', async (context) => {
    const path = shared(context, folder);
    const gguf = await loadGguf(`${path}/SmolLM2-135M-Instruct.Q4_1.gguf`);
    const json = await loadFolder(path);
    expect(gguf.tokenizer.vocabSize).toBe(json.tokenizer.vocabSize);
    expect(gguf.source.bosId).toBe(json.source.bosId);
    expect(gguf.source.addBos).toBe(false);
    expect(gguf.source.eosIds).toContain(2);
    expect(gguf.source.templateVars).toMatchObject(json.source.templateVars);

    const prose = readText(shared(context, 'data/tinyshakespeare.txt')).slice(0, 200_000);
    const wiki = readText(shared(context, 'data/wikitext2-valid.txt')).slice(0, 200_000);
    const texts = [...TORTURE, '<|im_start|>user\nx<|im_end|>', ...prose.split('\n\n'), ...wiki.split('\n')];
    for (const text of texts) {
      const ids = await gguf.tokenizer.encode(text);
      expect(ids, JSON.stringify(text)).toEqual(await json.tokenizer.encode(text));
      expect(gguf.tokenizer.decode(ids, { skipSpecial: false })).toBe(text);
    }
  });

  test('prompts of the reference', async (context) => {
    const path = shared(context, folder);
    const { source, tokenizer } = await loadGguf(`${path}/SmolLM2-135M-Instruct.Q4_1.gguf`);
    const template = new ChatTemplate(source.chatTemplate, source.templateVars);
    interface Reference {
      prompt: string | ChatMessage[];
      promptIds: number[];
      ids: number[];
      text: string;
    }
    const rows = JSON.parse(readText(`${path}/greedy-transformers-fp32.json`)) as Reference[];
    expect(rows.length).toBeGreaterThan(5);
    for (const { prompt, promptIds, ids, text } of rows) {
      const rendered = typeof prompt === 'string' ? prompt : await template.render(prompt);
      expect(await tokenizer.encode(rendered)).toEqual(promptIds);
      expect(tokenizer.decode(ids)).toBe(text);
    }
  });
});

describe('byte-level BPE', () => {
  test('control tokens, BOS and EOS', async () => {
    const source = sourceFromGguf(fakeGguf(tinyByteLevel()));
    const tokenizer = await Tokenizer.create(source);
    const id = (token: string) => (tinyByteLevel()['tokenizer.ggml.tokens'] as string[]).indexOf(token);
    expect(source.bosId).toBe(id('<s>'));
    expect(source.addBos).toBe(false);
    // The end of a turn counts although the file names only </s>.
    expect(source.eosIds).toEqual([id('</s>'), id('<|im_end|>')]);
    expect(source.templateVars).toEqual({ bos_token: '<s>', eos_token: '</s>' });
    expect(tokenizer.isSpecial(id('<|im_end|>'))).toBe(true);
    expect(tokenizer.isSpecial(id('<think>'))).toBe(false);
    expect(await tokenizer.encode('<|im_start|>hello')).toEqual([id('<|im_start|>'), id('hello')]);
    expect(await tokenizer.encode('hello', { bos: true })).toEqual([id('<s>'), id('hello')]);
  });

  test('its tokenizer.json is made anew when it is asked for again', async () => {
    const source = sourceFromGguf(fakeGguf(tinyByteLevel()));
    const first = source.json;
    expect(JSON.parse(first).model.type).toBe('BPE');
    expect(source.json).toBe(first);
  });

  test('tokens named like properties of objects', async () => {
    const source = sourceFromGguf(fakeGguf(tinyByteLevel()));
    const tokens = tinyByteLevel()['tokenizer.ggml.tokens'] as string[];
    const tokenizer = await Tokenizer.create(source);
    for (const token of ['__proto__', 'constructor']) {
      expect(tokenizer.decode([tokens.indexOf(token)])).toBe(token);
      const ids = await tokenizer.encode(token, { special: false });
      expect(tokenizer.decode(ids)).toBe(token);
    }
  });

  test('add_bos_token and its default by pre-tokenizer', () => {
    const addBos = (more: Record<string, unknown>) => sourceFromGguf(fakeGguf(tinyByteLevel(more))).addBos;
    expect(addBos({ 'tokenizer.ggml.pre': 'llama-bpe' })).toBe(true);
    expect(addBos({ 'tokenizer.ggml.pre': 'llama-bpe', 'tokenizer.ggml.add_bos_token': false })).toBe(false);
    expect(addBos({ 'tokenizer.ggml.add_bos_token': true })).toBe(true);
    expect(addBos({ 'tokenizer.ggml.pre': 'llama-bpe', 'tokenizer.ggml.bos_token_id': 9999 })).toBe(false);
  });

  test('a word of the vocabulary is taken whole where merges are ignored', async () => {
    const tokens = tinyByteLevel()['tokenizer.ggml.tokens'] as string[];
    const encode = async (pre: string) => {
      const source = sourceFromGguf(fakeGguf(tinyByteLevel({ 'tokenizer.ggml.pre': pre })));
      return (await Tokenizer.create(source)).encode('constructor', { bos: false });
    };
    expect(await encode('llama-bpe')).toEqual([tokens.indexOf('constructor')]);
    expect((await encode('smaug-bpe')).length).toBeGreaterThan(1);
  });

  test('empty and repeated tokens keep their ids', async () => {
    const values = tinyByteLevel();
    const tokens = [...(values['tokenizer.ggml.tokens'] as string[]), '', 'hello', ''];
    const types = [...(values['tokenizer.ggml.token_type'] as number[]), 5, 5, 5];
    const more = { 'tokenizer.ggml.tokens': tokens, 'tokenizer.ggml.token_type': types };
    const tokenizer = await Tokenizer.create(sourceFromGguf(fakeGguf(tinyByteLevel(more))));
    expect(tokenizer.vocabSize).toBe(tokens.length);
    expect(await tokenizer.encode('hello')).toEqual([tokens.indexOf('hello')]);
  });

  test('<|end|> ends a reply, but not in the harmony format', () => {
    const ends = (...control: string[]) => {
      const values = tinyByteLevel();
      const tokens = [...(values['tokenizer.ggml.tokens'] as string[]), ...control];
      const types = [...(values['tokenizer.ggml.token_type'] as number[]), ...control.map(() => 3)];
      const more = { 'tokenizer.ggml.tokens': tokens, 'tokenizer.ggml.token_type': types };
      return sourceFromGguf(fakeGguf(tinyByteLevel(more))).eosIds.map((id) => tokens[id]);
    };
    expect(ends('<|end|>')).toEqual(['</s>', '<|im_end|>', '<|end|>']);
    expect(ends('<|end|>', '<|return|>', '<|call|>')).toEqual([
      '</s>',
      '<|im_end|>',
      '<|return|>',
      '<|call|>',
    ]);
  });
});

describe('pre-tokenizers', () => {
  test.each([...PRE_TOKENIZERS.keys()])('%s loads and loses no text', async (pre) => {
    const source = sourceFromGguf(fakeGguf(tinyByteLevel({ 'tokenizer.ggml.pre': pre })));
    const tokenizer = await Tokenizer.create(source);
    for (const text of TORTURE) {
      const back = tokenizer.decode(await tokenizer.encode(text, { bos: false }));
      expect(back).toBe(PRE_TOKENIZERS.get(pre)!.nfc ? text.normalize('NFC') : text);
    }
  });

  // How the tokenizers that these names stand for cut words.
  const CUTS: [pre: string, text: string, words: string[]][] = [
    ['gpt-2', "we've 1234  x", ['we', "'ve", ' 1234', ' ', ' x']],
    ['llama-bpe', "WE'VE 12345 x\n\n y", ['WE', "'VE", ' ', '123', '45', ' x', '\n\n', ' y']],
    ['qwen2', 'a 123.b', ['a', ' ', '1', '2', '3', '.b']],
    ['qwen35', 'n\u0303o 12', ['n\u0303o', ' ', '1', '2']],
    ['smollm', 'a 12 b', ['a', ' ', '1', '2', ' b']],
    ['gpt-4o', "HelloWorld's a/b\n", ['Hello', "World's", ' a', '/b', '\n']],
    ['tekken', 'HelloWorld 12', ['Hello', 'World', ' ', '1', '2']],
    ['deepseek-v3', 'x 12345 日本 _abc', ['x', ' ', '123', '45', ' ', '日本', ' _', 'abc']],
    ['deepseek-coder', 'ab 12, c', ['ab', ' ', '1', '2', ',', ' c']],
    ['deepseek-llm', 'ab 12, c', ['ab', ' ', '12', ',', ' c']],
    ['falcon', 'a, 1234 b', ['a', ',', ' ', '123', '4', ' b']],
    ['kimi-k2', '中文abc 1234', ['中文', 'abc', ' ', '123', '4']],
    ['bloom', 'ab, cd', ['ab', ',', ' cd']],
    ['default', 'a, 1234', ['a', ',', ' ', '123', '4']],
  ];
  test.each(CUTS)('%s cuts %j', (pre, text, words) => {
    const { json } = sourceFromGguf(fakeGguf(tinyByteLevel({ 'tokenizer.ggml.pre': pre })));
    const cuts = NativeTokenizer.fromString(json).getPreTokenizer()!.preTokenizeString(text);
    expect(cuts.map(([, [start, end]]) => [...text].slice(start, end).join(''))).toEqual(words);
  });

  test('an unknown one is an error that names it', () => {
    const meta = fakeGguf(tinyByteLevel({ 'tokenizer.ggml.pre': 'gpt-9' }));
    expect(() => sourceFromGguf(meta)).toThrow(
      expect.objectContaining({
        code: 'EYRIE_TOKENIZER',
        message: expect.stringMatching(/tokenizer\.ggml\.pre: .*llama-bpe.*got "gpt-9"/),
      }),
    );
  });
});

describe('SentencePiece', () => {
  const tokens = [
    '<unk>',
    '<s>',
    '</s>',
    '<0x0A>',
    '<0xC3>',
    '<0xA9>',
    '<0x00>',
    '▁',
    'a',
    'b',
    'ab',
    '▁a',
    '▁ab',
    '\ufeff',
  ];
  const values = {
    'tokenizer.ggml.model': 'llama',
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.token_type': [2, 3, 3, 6, 6, 6, 6, 1, 1, 1, 1, 1, 1, 1],
    'tokenizer.ggml.scores': [0, 0, 0, 0, 0, 0, 0, -9, -9, -9, -1, -2, -3, -9],
  };

  test('merges by score, falls back to bytes, starts with a space', async () => {
    const source = sourceFromGguf(fakeGguf(values));
    expect(source).toMatchObject({ bosId: 1, eosIds: [2], addBos: true });
    expect(source.templateVars).toEqual({ bos_token: '<s>', eos_token: '</s>' });
    const tokenizer = await Tokenizer.create(source);
    const named = async (text: string) => (await tokenizer.encode(text)).map((id) => tokens[id]);
    expect(await named('ab')).toEqual(['<s>', '▁ab']);
    expect(await named('aab')).toEqual(['<s>', '▁a', 'ab']);
    expect(await named('é\n')).toEqual(['<s>', '▁', '<0xC3>', '<0xA9>', '<0x0A>']);
    expect(await named('</s>a')).toEqual(['<s>', '</s>', '▁a']);
    // A token that text decoders like to drop.
    expect(await named('\ufeffa')).toEqual(['<s>', '▁', '\ufeff', 'a']);
    for (const text of ['ab a', ' ab', 'é\n', '\ufeffa']) {
      expect(tokenizer.decode(await tokenizer.encode(text))).toBe(text);
    }
  });

  test('add_space_prefix off', async () => {
    const meta = fakeGguf({ ...values, 'tokenizer.ggml.add_space_prefix': false });
    const tokenizer = await Tokenizer.create(sourceFromGguf(meta));
    const ids = await tokenizer.encode('ab ab', { bos: false });
    expect(ids.map((id) => tokens[id])).toEqual(['ab', '▁ab']);
    expect(tokenizer.decode(ids)).toBe('ab ab');
    expect(tokenizer.decode(ids.slice(1))).toBe(' ab');
  });

  test('scores must be there', () => {
    const { 'tokenizer.ggml.scores': _, ...rest } = values;
    expect(() => sourceFromGguf(fakeGguf(rest))).toThrow(/tokenizer\.ggml\.scores/);
  });
});

test('other kinds of vocabulary are refused by name', () => {
  for (const model of ['bert', 't5', 'rwkv']) {
    const meta = fakeGguf({ 'tokenizer.ggml.model': model });
    expect(() => sourceFromGguf(meta)).toThrow(
      expect.objectContaining({
        code: 'EYRIE_TOKENIZER',
        message: expect.stringContaining(`got "${model}"`),
      }),
    );
  }
  expect(() => sourceFromGguf(fakeGguf({}))).toThrow(/tokenizer\.ggml\.model: .*got nothing/);
  const { 'tokenizer.ggml.merges': _, ...noMerges } = tinyByteLevel();
  expect(() => sourceFromGguf(fakeGguf(noMerges))).toThrow(/tokenizer\.ggml\.merges/);
  const short = tinyByteLevel({ 'tokenizer.ggml.token_type': [1, 1] });
  expect(() => sourceFromGguf(fakeGguf(short))).toThrow(/token_type: expected \d+ entries/);
});
