/**
 * The `model` section of a tokenizer.json, written as text. Built by hand because a vocabulary in a plain object goes
 * wrong on tokens such as `__proto__`, and because two passes over 50,000 tokens would cost time to first token.
 */

/** `{"token":id,…}` */
export function vocabText(tokens: readonly string[]): string {
  // Nearly all tokens need no escapes, and JSON.stringify of a short string is mostly overhead.
  const quote = (token: string) => (/^[ !#-[\]-\ud7ff]*$/.test(token) ? `"${token}"` : JSON.stringify(token));
  return `{${tokens.map((token, id) => `${quote(token)}:${id}`).join(',')}}`;
}

interface BpeOptions {
  unknown?: string | undefined;
  byteFallback?: boolean;
  ignoreMerges?: boolean;
}

/** `merges` are "left right", as GGUF has them, or pairs. */
export function bpeModelText(
  tokens: readonly string[],
  merges: readonly (string | readonly [string, string])[],
  options: BpeOptions,
): string {
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
  return `${JSON.stringify(head).slice(0, -1)},"vocab":${vocabText(tokens)},"merges":${JSON.stringify(merges)}}`;
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
