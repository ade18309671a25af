import type { JsonText } from './json-text.ts';
import type { TextList } from './text-list.ts';

interface BpeOptions {
  unknown?: string | undefined;
  byteFallback?: boolean;
  ignoreMerges?: boolean;
}

/**
 * Writes the `model` section of a tokenizer.json. By hand, because a vocabulary in a plain object goes wrong on tokens such as
 * `__proto__`, and because passes over 50,000 tokens cost memory and time to the first token. `merges` are "left right", as GGUF has them, or pairs.
 */
export function writeBpeModel(
  out: JsonText,
  tokens: { length: number; quote(id: number, out: JsonText): void },
  merges: TextList | readonly (readonly [string, string])[],
  options: BpeOptions,
): void {
  const head = {
    type: 'BPE',
    dropout: null,
    unk_token: options.unknown ?? null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: options.unknown !== undefined,
    byte_fallback: options.byteFallback ?? false,
    ignore_merges: options.ignoreMerges ?? false,
  };
  out.raw(`${JSON.stringify(head).slice(0, -1)},"vocab":{`);
  for (let id = 0; id < tokens.length; id++) {
    if (id > 0) out.raw(',');
    tokens.quote(id, out);
    out.raw(':').integer(id);
  }
  out.raw('},"merges":[');
  for (let i = 0; i < merges.length; i++) {
    if (i > 0) out.raw(',');
    if ('quote' in merges) merges.quote(i, out);
    else out.value(merges[i]);
  }
  out.raw(']}');
}

/**
 * SentencePiece has no merges: it joins the two neighbours whose union has the best score. The same result comes from
 * listing every way to put a token together from two others, best score first. Between equal scores the longer left
 * half goes first, as in the converters of transformers.
 */
export function mergesFromScores(
  tokens: readonly string[],
  scores: ArrayLike<number>,
  mayMerge: (id: number) => boolean,
): [string, string][] {
  const ids = new Map<string, number>();
  for (let id = 0; id < tokens.length; id++) if (mayMerge(id)) ids.set(tokens[id]!, id);

  const merges: { left: string; right: string; score: number }[] = [];
  for (const [token, id] of ids) {
    const score = scores[id]!;
    const ways: { left: string; right: string; score: number }[] = [];
    for (let cut = 1; cut < token.length; cut++) {
      const code = token.charCodeAt(cut);
      if (code >= 0xdc00 && code < 0xe000) continue; // inside a surrogate pair
      const left = token.slice(0, cut);
      const right = token.slice(cut);
      if (ids.has(left) && ids.has(right)) ways.push({ left, right, score });
    }
    ways.sort((a, b) => ids.get(a.left)! - ids.get(b.left)!);
    merges.push(...ways);
  }
  merges.sort(
    (a, b) => b.score - a.score || length(b.left) - length(a.left) || length(b.right) - length(a.right),
  );
  return merges.map(({ left, right }) => [left, right]);
}

/** In code points. */
function length(text: string): number {
  let n = 0;
  for (const _ of text) n++;
  return n;
}
