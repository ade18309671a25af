// What the benchmarks share: statistics, the machine's name, tables, JSON files.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package folder. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** A path in the folder of shared test material, beside the repository or at EYRIE_SHARED; null when it is absent. */
export function sharedPath(path) {
  const folder = process.env.EYRIE_SHARED ? resolve(process.env.EYRIE_SHARED) : resolve(root, '../shared');
  const full = join(folder, path);
  return existsSync(full) ? full : null;
}

/** @param {number[]} samples */
export function median(samples) {
  const s = [...samples].sort((a, b) => a - b);
  const half = s.length >> 1;
  return s.length % 2 ? s[half] : (s[half - 1] + s[half]) / 2;
}

/** Median with its range and the samples behind it. */
export function summary(samples) {
  return { median: median(samples), min: Math.min(...samples), max: Math.max(...samples), samples };
}

/** Runs each side once a round, every second round backwards, so that nobody always runs behind the same one; `title` shows where it is. */
export async function inTurn(title, rounds, sides) {
  for (let round = 0; round < rounds; round++) {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${title}: ${round + 1}/${rounds}`);
    for (const side of round % 2 ? [...sides].reverse() : sides) await side();
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
}

/** A cell of a table: the median of a summary, with its range where there were several samples. */
export function spread(s) {
  return s.samples.length > 1 ? `${digits(s.median)} (${digits(s.min)}–${digits(s.max)})` : digits(s.median);
}

/** One median over another. */
export function ratio(a, b) {
  return `${(a.median / b.median).toFixed(2)}×`;
}

/** Three significant digits, without an exponent. */
export function digits(x) {
  if (!Number.isFinite(x)) return '–';
  if (x === 0) return '0';
  const places = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(x))));
  return x.toFixed(Math.min(places, 3));
}

function cpuName() {
  const info = existsSync('/proc/cpuinfo') ? readFileSync('/proc/cpuinfo', 'utf8') : '';
  const field = (name) => new RegExp(`^${name}\\s*:\\s*(.+)$`, 'm').exec(info)?.[1]?.trim();
  const name = field('model name') ?? cpus()[0]?.model ?? process.arch;
  // Virtual machines often hide the model behind a bare brand; family and model number still tell the generation.
  const bare = !/\d/.test(name) && field('cpu family');
  return bare ? `${name} (family ${field('cpu family')} model ${field('model')})` : name;
}

/** The commit measured; EYRIE_COMMIT names it where the tree has no repository. */
export function commit() {
  const git = spawnSync('git', ['describe', '--always', '--dirty', '--abbrev=10'], {
    cwd: root,
    encoding: 'utf8',
  });
  return process.env.EYRIE_COMMIT ?? (git.status === 0 ? git.stdout.trim() : null);
}

/** Who measured: everything that a figure depends on and that is not an option of the benchmark. */
export function machine() {
  return {
    cpu: cpuName(),
    cores: cpus().length,
    node: process.version,
    commit: commit(),
    date: new Date().toISOString(),
    loadAverage: loadavg()[0],
  };
}

/** `AMD EPYC (family 25 model 1)` → `amd-epyc-family-25-model-1`. */
export function slug(text) {
  return text
    .toLowerCase()
    .replace(/\((r|tm)\)/g, '')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}

/** A table of GitHub's Markdown; columns after the first are aligned to the right unless named in `left`. */
export function table(head, rows, left = []) {
  const cells = [head, ...rows].map((row) => row.map((c) => String(c ?? '')));
  const width = head.map((_, i) => Math.max(3, ...cells.map((row) => row[i].length)));
  const isLeft = (i) => i === 0 || left.includes(head[i]);
  const line = (row) =>
    `| ${row.map((c, i) => (isLeft(i) ? c.padEnd(width[i]) : c.padStart(width[i]))).join(' | ')} |`;
  const rule = `| ${width.map((w, i) => (isLeft(i) ? '-'.repeat(w) : `${'-'.repeat(w - 1)}:`)).join(' | ')} |`;
  return [line(cells[0]), rule, ...cells.slice(1).map(line)].join('\n');
}

/** Writes a result file and says where; null: a partial run, which must not replace a whole one. */
export async function writeJson(path, data) {
  if (path === null) return;
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `${JSON.stringify(data, null, 1)}\n`);
  console.log(`\nwritten: ${relative(process.cwd(), path)}`);
}

/** Figures of a busy machine mislead: say so where they are read. */
export function warnIfBusy(host) {
  if (host.loadAverage > host.cores / 2) {
    console.log(
      `\nThe machine was busy when this began (load average ${digits(host.loadAverage)}): do not trust it.`,
    );
  }
}
