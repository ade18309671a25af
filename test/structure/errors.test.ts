import { describe, expect, it } from 'vitest';
import { ERROR_CODES } from '../../lib/errors.ts';
import { type Source, sources } from './layers.ts';

/** Quoted codes in a source; what getenv reads and the command line quotes for the shell are variables, not codes. */
function codesIn({ text }: Source): string[] {
  const code = text.replace(/getenv\("EYRIE_\w+"\)|env(?:\.|\[['"])EYRIE_\w+/g, '');
  return [...code.matchAll(/(['"])(EYRIE_[A-Z][A-Z0-9_]*)\1/g)].map((m) => m[2]!);
}

const used = new Map<string, string[]>();
for (const file of [...sources('lib', /\.ts$/), ...sources('csrc', /\.(h|cc|cu|cuh)$/)]) {
  for (const code of codesIn(file)) used.set(code, [...(used.get(code) ?? []), file.path]);
}

describe('error codes', () => {
  it('every code that the sources use is documented', () => {
    const unknown = [...used].filter(([code]) => !(code in ERROR_CODES));
    expect(unknown).toEqual([]);
  });

  it.each(Object.keys(ERROR_CODES))('%s is used', (code) => {
    expect(used.get(code) ?? []).not.toEqual([]);
  });

  it('every documentation is a sentence', () => {
    for (const [code, text] of Object.entries(ERROR_CODES)) expect(text, code).toMatch(/^[A-Z].*\.$/);
  });

  it('the reader tells codes from variables', () => {
    const text = `throw new EyrieError('EYRIE_SHAPE', 'x'); getenv("EYRIE_THREADS"); process.env.EYRIE_ADDON; Error("EYRIE_DTYPE")`;
    expect(codesIn({ path: 'x', text })).toEqual(['EYRIE_SHAPE', 'EYRIE_DTYPE']);
  });
});
