// What the default arithmetic does to a model: mean KL divergence to its f32 arithmetic, perplexities, and how often the best
// token is the same, over the windows of a text.
//   node bench/accuracy.mjs MODEL FILE [--tokens 8192] [--window 1024] [--kv DTYPE] [--weights FORMAT] [--json FILE]
import { readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { load } from '../dist/index.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: 'string', default: '8192' },
    window: { type: 'string', default: '1024' },
    json: { type: 'string' },
    kv: { type: 'string' },
    weights: { type: 'string' },
  },
});
const [modelPath, textPath] = positionals;
if (!textPath) {
  console.error(
    'usage: node bench/accuracy.mjs MODEL FILE [--tokens N] [--window N] [--kv DTYPE] [--weights FORMAT] [--json FILE]',
  );
  process.exit(2);
}
const window = Number(values.window);
const options = { contextLength: window, maxSequences: 1 };
const exact = await load(modelPath, { ...options, activations: 'f32' });
const fast = await load(modelPath, {
  ...options,
  ...(values.kv ? { kvDtype: values.kv } : {}),
  ...(values.weights ? { weights: values.weights } : {}),
});
const ids = (await exact.tokenizer.encode(await readFile(textPath, 'utf8'), { bos: false })).slice(
  0,
  Number(values.tokens),
);

/** Log-probabilities in place; returns the index of the best one. */
function logSoftmax(row) {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i] > row[best]) best = i;
  const max = row[best];
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += Math.exp(row[i] - max);
  const log = max + Math.log(sum);
  for (let i = 0; i < row.length; i++) row[i] -= log;
  return best;
}

const kls = [];
let same = 0;
let nllExact = 0;
let nllFast = 0;
let scored = 0;
const a = exact.evaluator({ length: window });
const b = fast.evaluator({ length: window });
for (let at = 0; at < ids.length; at += window) {
  const part = ids.slice(at, at + window);
  const positions = part.map((_, i) => i);
  const [pa, pb] = [await a.logits(part, positions), await b.logits(part, positions)];
  for (const i of positions) {
    const [p, q] = [pa.get(i), pb.get(i)];
    const [bp, bq] = [logSoftmax(p), logSoftmax(q)];
    if (bp === bq) same++;
    let kl = 0;
    for (let v = 0; v < p.length; v++) if (p[v] > -40) kl += Math.exp(p[v]) * (p[v] - q[v]);
    kls.push(kl);
    if (i + 1 < part.length) {
      nllExact -= p[part[i + 1]];
      nllFast -= q[part[i + 1]];
      scored++;
    }
  }
  console.error(
    `${Math.min(at + window, ids.length)}/${ids.length} tokens, mean KL ${(kls.reduce((x, y) => x + y, 0) / kls.length).toFixed(6)}`,
  );
}
kls.sort((x, y) => x - y);
const report = {
  model: modelPath.split('/').pop(),
  level: fast.stream.name,
  kvDtype: fast.engine.options.kvDtype,
  weights: values.weights ?? 'as in the file',
  tokens: ids.length,
  window,
  perplexityF32: Math.exp(nllExact / scored),
  perplexity: Math.exp(nllFast / scored),
  meanKL: kls.reduce((x, y) => x + y, 0) / kls.length,
  kl99: kls[Math.floor(kls.length * 0.99)],
  sameBest: same / kls.length,
};
console.log(JSON.stringify(report, null, 2));
if (values.json) await writeFile(values.json, `${JSON.stringify(report, null, 2)}\n`);
a.dispose();
b.dispose();
await Promise.all([exact.dispose(), fast.dispose()]);
