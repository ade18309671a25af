// Reads ops.def and sampling.def as text and writes what would otherwise be kept by hand:
//   csrc/core/ops.gen.h      typed arguments of every op for the kernels
//   lib/native/ops.gen.ts    the TypeScript face of the table
// `node csrc/gen.mjs --check` writes nothing and fails when a file is out of date.
import { readFileSync, writeFileSync } from 'node:fs';

const here = new URL('.', import.meta.url);
const read = (name) => readFileSync(new URL(name, here), 'utf8');
const camel = (s) => s.replace(/_([a-z0-9])/g, (_, c) => c.toUpperCase());
const pascal = (s) => camel(`_${s}`);

/** Rows of a .def file with the comment block above each. */
function rows(text, macro) {
  const out = [];
  let doc = [];
  for (const line of text.split('\n')) {
    const comment = /^\/\/ ?(.*)$/.exec(line);
    if (comment) doc.push(comment[1]);
    else if (line.startsWith(`${macro}(`)) {
      out.push({ line, doc: doc.join('\n').trim() });
      doc = [];
    } else doc = [];
  }
  return out;
}

function parseSignature(signature) {
  const args = [];
  const symbols = [];
  let out = false;
  for (const word of signature.split(/\s+/)) {
    if (word === '->') {
      out = true;
      continue;
    }
    const m = /^(\w+):(\w+)(~?)(?:\[([^\]]+)\])?([!?^]*)$/.exec(word);
    if (!m) throw new Error(`cannot parse "${word}" in "${signature}"`);
    const [, name, type, , dims, flags] = m;
    const tensor = dims !== undefined;
    for (const d of tensor ? dims.split(',') : []) {
      const base = d.replace(/\+1$/, '');
      if (!/^\d+$/.test(base) && !symbols.includes(base)) symbols.push(base);
    }
    args.push({ name, type, tensor, dims, optional: flags.includes('?'), inout: flags.includes('!'), out });
  }
  return { args, symbols };
}

const ops = rows(read('ops.def'), 'OP').map(({ line, doc }) => {
  const m = /^OP\((\w+), "([^"]+)"\)$/.exec(line);
  if (!m) throw new Error(`cannot parse ${line}`);
  return { name: m[1], signature: m[2], doc, ...parseSignature(m[2]) };
});
const sampling = rows(read('sampling.def'), 'SAMPLING').map(({ line }) => {
  const m = /^SAMPLING\((\w+), ([^,]+), ([^,]+), ([^,]+), "([^"]+)"\)$/.exec(line);
  if (!m) throw new Error(`cannot parse ${line}`);
  return { name: m[1], default: Number(m[2]), min: Number(m[3]), max: Number(m[4]), doc: m[5] };
});

function header() {
  const lines = [
    '// Written by csrc/gen.mjs from ops.def and sampling.def; do not edit.',
    '#pragma once',
    '#include "core/call.h"',
    '',
    'namespace eyrie {',
    '',
    `enum class SamplingColumn { ${sampling.map((s) => s.name).join(', ')}, count };`,
  ];
  for (const op of ops) {
    const n = `${pascal(op.name)}Args`;
    lines.push('', `// ${op.signature}`, `struct ${n} {`);
    const tensors = op.args.filter((a) => a.tensor).map((a) => a.name);
    lines.push(`  const Tensor ${tensors.map((t) => `*${t}`).join(', ')};  // null: absent`);
    for (const a of op.args.filter((a) => !a.tensor))
      lines.push(`  ${a.type === 'f32' ? 'float' : 'int'} ${a.name};`);
    if (op.symbols.length) lines.push(`  int64_t ${op.symbols.join(', ')};`);
    lines.push('};', `EYRIE_INLINE ${n} ${op.name}_args(const Call& c) {`, `  ${n} a;`);
    op.args.forEach((a, i) => {
      if (!a.tensor) lines.push(`  a.${a.name} = (${a.type === 'f32' ? 'float' : 'int'})c.scalar[${i}];`);
      else if (a.optional) lines.push(`  a.${a.name} = c.tensor[${i}].data ? &c.tensor[${i}] : nullptr;`);
      else lines.push(`  a.${a.name} = &c.tensor[${i}];`);
    });
    for (const [i, s] of op.symbols.entries()) lines.push(`  a.${s} = c.size[${i}];`);
    lines.push('  return a;', '}');
  }
  lines.push('', '}  // namespace eyrie', '');
  return lines.join('\n');
}

function typescript() {
  const lines = [
    '// Written by csrc/gen.mjs from ops.def and sampling.def; do not edit.',
    '',
    "/** A tensor's number in the native table: slot and generation. */",
    'export type Handle = number;',
    '',
    '/** The exports of the op table: validate at once, enqueue on the stream, return. */',
    'export interface NativeOps {',
  ];
  for (const op of ops) {
    lines.push(
      '  /**',
      ...op.doc.split('\n').map((l) => `   * ${l}`),
      '   *',
      `   * \`${op.signature}\``,
      '   */',
    );
    const params = op.args.map(
      (a) => `${camel(a.name)}: ${a.tensor ? 'Handle' : 'number'}${a.optional ? ' | null' : ''}`,
    );
    lines.push(`  ${op.name}(stream: number, ${params.join(', ')}): void;`);
  }
  lines.push(
    '}',
    '',
    '/** The table as data. */',
    'export const OPS: readonly { name: keyof NativeOps; signature: string }[] = [',
  );
  for (const op of ops) lines.push(`  { name: '${op.name}', signature: '${op.signature}' },`);
  lines.push('];', '', '/** The columns of `sample`, in order. */', 'export const SAMPLING_COLUMNS = [');
  for (const s of sampling) {
    const doc = s.doc.replaceAll("'", "\\'");
    lines.push(
      `  { name: '${camel(s.name)}', default: ${s.default}, min: ${s.min}, max: ${s.max}, doc: '${doc}' },`,
    );
  }
  lines.push('] as const;', '');
  return lines.join('\n');
}

const targets = [
  ['core/ops.gen.h', header()],
  ['../lib/native/ops.gen.ts', typescript()],
];
let stale = 0;
for (const [path, text] of targets) {
  const url = new URL(path, here);
  let old = '';
  try {
    old = readFileSync(url, 'utf8');
  } catch {
    // not written yet
  }
  if (old === text) continue;
  if (process.argv.includes('--check')) {
    console.error(`${path} is out of date: run \`npm run gen\``);
    stale++;
  } else writeFileSync(url, text);
}
process.exitCode = stale ? 1 : 0;
