import type { AddedToken } from './source.ts';

interface TokenizerJson {
  added_tokens: AddedToken[];
  truncation: unknown;
  padding: unknown;
  model: {
    type: string;
    vocab: Record<string, number> | [string, number][];
    merges?: (string | [string, string])[];
    unk_token?: string | null;
  };
}

/**
 * A tokenizer.json for untrusted text: in it, `<|im_end|>` is nothing but ten characters. Control tokens leave the
 * list of added tokens, and the vocabulary too, where a model that takes whole words (ignore_merges, WordLevel) would
 * find them again. Added tokens that are text, such as runs of spaces, stay: without them, ordinary text would be cut
 * in a way that the model has never seen.
 */
export function withoutControlTokens(json: string): string {
  const file = JSON.parse(json) as TokenizerJson;
  const { model } = file;
  const gone = new Set(file.added_tokens.filter(isControl).map((token) => token.content));
  file.added_tokens = file.added_tokens.filter((token) => !gone.has(token.content));
  // A model cannot do without its unknown token; text that spells it is no more than unknown.
  if (typeof model.unk_token === 'string') gone.delete(model.unk_token);

  if (Array.isArray(model.vocab)) {
    // Unigram ids are places in the list, so a token is renamed to something that no text holds.
    const hide = (token: string, id: number) => (gone.has(token) ? `\u{10ffff}${id}` : token);
    model.vocab = model.vocab.map(([token, score], id): [string, number] => [hide(token, id), score]);
  } else {
    model.vocab = fromEntries(Object.entries(model.vocab).filter(([token]) => !gone.has(token)));
  }
  if (model.merges) {
    model.merges = model.merges.filter((merge) => {
      const [left, right] = typeof merge === 'string' ? (merge.split(' ') as [string, string]) : merge;
      return !gone.has(left) && !gone.has(right) && !gone.has(left + right);
    });
  }
  return JSON.stringify(file);
}

/** Marked as special, or set in brackets of some kind: `<think>`, `[INST]`, `<|user|>`, `<｜User｜>`. */
function isControl({ special, content }: AddedToken): boolean {
  return special || /^[^\p{L}\p{N}\s▁].*[^\p{L}\p{N}\s▁]$/su.test(content);
}

/** `Object.fromEntries` that survives a token named `__proto__`. */
function fromEntries(entries: [string, number][]): Record<string, number> {
  const result = Object.create(null) as Record<string, number>;
  for (const [token, id] of entries) result[token] = id;
  return result;
}
