// `node scripts/record.mjs`: records what launches on the CPU got and made (csrc/core/record.h), for gpu-tests: a varied choice of those of
// the ops' tests, build/records/ops.rec, and some in sizes of real models, build/records/large.rec.
//   node scripts/record.mjs [--into FOLDER] [--mb N] [--per-op N] [vitest paths]
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import load from 'node-gyp-build';
import { fail, root, run, runBin, say } from './util.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    into: { type: 'string', default: 'build/records' },
    mb: { type: 'string', default: '14' },
    'per-op': { type: 'string', default: '200' },
  },
});
const folder = join(root, options.into);
const HEAD = 12;

/** The level whose results are recorded: the best one, with fused multiply-add where the processor has it. */
function bestLevel() {
  const forced = process.env.EYRIE_ADDON;
  const addon = forced ? createRequire(import.meta.url)(forced) : load(root);
  return addon.machine().levels.at(-1);
}

/** Records of a file: op, shapes, and the bytes. */
function* records(path) {
  const file = readFileSync(path);
  if (file.toString('latin1', 0, 8) !== 'EYRIEREC') throw new Error(`${path} is no file of records`);
  for (let at = HEAD; at < file.length; ) {
    const size = Number(file.readBigUInt64LE(at));
    const body = file.subarray(at, at + 8 + size);
    let p = 8;
    const text = () => {
      const n = body.readUInt16LE(p);
      p += 2 + n;
      return body.toString('utf8', p - n, p);
    };
    const op = text();
    yield { op, shapes: text(), body };
    at += 8 + size;
  }
}

/** `limit` records within `bytes`, a kind (dtypes, options) at a time and small ones first; large ones too while there is room. */
function pick(all, limit, bytes) {
  const kinds = new Map();
  for (const r of all) {
    const kind = r.shapes.replace(/\[[^\]]*\]/g, '[]').replace(/:-?\d+\.\d+\b/g, ':x');
    if (!kinds.has(kind)) kinds.set(kind, []);
    kinds.get(kind).push(r);
  }
  for (const list of kinds.values()) {
    list.sort((a, b) => a.body.length - b.body.length);
    // Smallest, largest, second smallest, …
    const order = [];
    for (let i = 0, j = list.length - 1; i <= j; i++, j--) {
      order.push(list[i]);
      if (j > i) order.push(list[j]);
    }
    list.splice(0, list.length, ...order);
  }
  const chosen = [];
  let used = 0;
  for (let round = 0, more = true; more && chosen.length < limit; round++) {
    more = false;
    for (const list of kinds.values()) {
      if (round >= list.length || chosen.length >= limit) continue;
      more = true;
      if (used + list[round].body.length > bytes) continue;
      used += list[round].body.length;
      chosen.push(list[round]);
    }
  }
  return chosen;
}

try {
  rmSync(folder, { recursive: true, force: true });
  const raw = join(folder, 'raw');
  mkdirSync(raw, { recursive: true });
  const level = bestLevel();
  runBin(
    'vitest',
    'vitest.mjs',
    ['run', '-t', `cpu ${level}`, ...(positionals.length ? positionals : ['test/ops'])],
    { env: { ...process.env, EYRIE_RECORD: raw, EYRIE_RECORD_LIMIT: '2000' } },
  );
  const byOp = new Map();
  const seen = new Set();
  for (const name of readdirSync(raw)) {
    for (const r of records(join(raw, name))) {
      // Tests of invariance run the same thing over and over.
      const hash = createHash('sha1').update(r.body).digest('base64');
      if (seen.has(hash)) continue;
      seen.add(hash);
      if (!byOp.has(r.op)) byOp.set(r.op, []);
      byOp.get(r.op).push(r);
    }
  }
  const parts = [Buffer.from('EYRIEREC'), Buffer.from([2, 0, 0, 0])];
  const size = (list) => list.reduce((n, r) => n + r.body.length, 0);
  let left = Number(options.mb) * 2 ** 20;
  // Small ops first: what they leave is shared by the others.
  const order = [...byOp].sort((a, b) => size(a[1]) - size(b[1]));
  for (const [i, [op, all]] of order.entries()) {
    const chosen = pick(all, Number(options['per-op']), left / (order.length - i));
    const bytes = size(chosen);
    left -= bytes;
    say(`${op}: ${chosen.length} of ${all.length} records, ${(bytes / 2 ** 20).toFixed(2)} MB`);
    parts.push(...chosen.map((r) => r.body));
  }
  const path = join(folder, 'ops.rec');
  const file = Buffer.concat(parts);
  writeFileSync(path, file);
  rmSync(raw, { recursive: true });
  say(`${path}: ${(file.length / 2 ** 20).toFixed(1)} MB, level ${level}`);
  if (positionals.length === 0) {
    const large = join(folder, 'large');
    mkdirSync(large);
    run(process.execPath, [join(root, 'scripts/record-cases.mjs')], {
      env: { ...process.env, EYRIE_RECORD: large, EYRIE_RECORD_LIMIT: '2000', EYRIE_RECORD_MB: '16' },
    });
    const [name] = readdirSync(large);
    // Without the packing: gpu-tests packs every weight anyway.
    const kept = [...records(join(large, name))]
      .filter((r) => !['pack_weight', 'quantize_weight'].includes(r.op))
      .map((r) => r.body);
    const all = Buffer.concat([...parts.slice(0, 2), ...kept]);
    writeFileSync(join(folder, 'large.rec'), all);
    rmSync(large, { recursive: true });
    say(`${join(folder, 'large.rec')}: ${kept.length} records, ${(all.length / 2 ** 20).toFixed(1)} MB`);
  }
} catch (error) {
  fail(error.message);
}
