// `npm run bench:picture`: draws what bench:ops measured, every op against its floor, one picture for each `ops-*.json` beside it.
//   node bench/picture.mjs [OPS.json …]
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { digits, root } from './report.mjs';

const SIZE = { width: 900, height: 640, left: 70, right: 220, top: 50, bottom: 60 };
const COLOURS = { memory: '#1f6fb4', compute: '#c23b22', cache: '#2a8f57', launch: '#8a6fb0' };
const escaped = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/**
 * SVG of results: the least possible time across, the measured one upwards, both in µs and logarithmic; an op on the lowest line has
 * reached its floor. @param {{ cpu: string, level: string, threads: number, commit: string, date: string, floors: object, results: object[] }} run
 */
export function picture(run) {
  const points = run.results.map((r) => ({ ...r, x: r.us * r.share, y: r.us }));
  const powers = (values) => [
    Math.floor(Math.log10(Math.min(...values))),
    Math.ceil(Math.log10(Math.max(...values))),
  ];
  const [low, high] = powers(points.flatMap((p) => [p.x, p.y]));
  const { width, height, left, right, top, bottom } = SIZE;
  const across = (v) => left + ((Math.log10(v) - low) / (high - low)) * (width - left - right);
  const up = (v) => height - bottom - ((Math.log10(v) - low) / (high - low)) * (height - top - bottom);
  const out = [];
  const text = (x, y, words, more = '') =>
    out.push(`<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escaped(words)}</text>`);
  const line = (x1, y1, x2, y2, more) =>
    out.push(
      `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" ${more}/>`,
    );
  for (let power = low; power <= high; power++) {
    const v = 10 ** power;
    const label = v >= 1000 ? `${v / 1000} ms` : `${v} µs`;
    line(across(v), up(10 ** low), across(v), up(10 ** high), 'stroke="#ddd"');
    line(across(10 ** low), up(v), across(10 ** high), up(v), 'stroke="#ddd"');
    text(across(v), height - bottom + 18, label, 'text-anchor="middle"');
    text(left - 8, up(v) + 4, label, 'text-anchor="end"');
  }
  // Lines of equal share, cut where they leave the field.
  for (const share of [1, 0.5, 0.25, 0.1]) {
    const end = 10 ** high * share;
    line(
      across(10 ** low),
      up(10 ** low / share),
      across(end),
      up(10 ** high),
      `stroke="#888" ${share < 1 ? 'stroke-dasharray="4 4"' : ''}`,
    );
    text(left + 4, up(10 ** low / share) - 6, `${100 * share} % of the floor`, 'fill="#666" font-size="10"');
  }
  for (const p of points) {
    const title = `${p.op} ${p.model} ${p.what}: ${digits(p.us)} µs, ${Math.round(100 * p.share)} % of its floor (${p.floor})`;
    out.push(
      `<circle cx="${across(p.x).toFixed(1)}" cy="${up(p.y).toFixed(1)}" r="4" fill="${COLOURS[p.floor]}" fill-opacity="0.65"><title>${escaped(title)}</title></circle>`,
    );
  }
  const { memory, cache, compute, launch } = run.floors;
  const legend = {
    memory: `memory: ${digits(memory)} GB/s`,
    cache: `caches: ${digits(cache)} GB/s`,
    compute: `products: ${digits(compute.bf16)} GFLOP/s`,
    launch: `a launch: ${digits(launch)} µs`,
  };
  text(width - right + 20, top + 10, 'What bounds an op:', 'font-weight="bold"');
  Object.entries(legend).forEach(([kind, words], i) => {
    const y = top + 34 + 22 * i;
    out.push(`<circle cx="${width - right + 26}" cy="${y - 4}" r="5" fill="${COLOURS[kind]}"/>`);
    text(width - right + 38, y, words);
  });
  text(
    left,
    20,
    `Every op against its floor: ${run.cpu}, ${run.level}, ${run.threads} threads`,
    'font-size="15"',
  );
  text(left, 36, `commit ${run.commit}, ${run.date.slice(0, 10)}`, 'fill="#666"');
  text((left + width - right) / 2, height - 16, 'floor: the least possible time', 'text-anchor="middle"');
  const middle = (top + height - bottom) / 2;
  text(18, middle, 'measured time', `text-anchor="middle" transform="rotate(-90 18 ${middle})"`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n${out.join('\n')}\n</svg>\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = join(root, 'bench/results');
  const found = readdirSync(folder).filter((name) => /^ops-.*\.json$/.test(name));
  const files = process.argv.length > 2 ? process.argv.slice(2) : found.map((name) => join(folder, name));
  if (files.length === 0) {
    console.error('no bench/results/ops-*.json: run `npm run bench:ops`, or name a file');
    process.exit(1);
  }
  for (const file of files) {
    const to = file.replace(/\.json$/, '.svg');
    writeFileSync(to, picture(JSON.parse(readFileSync(file, 'utf8'))));
    console.log(`drawn: ${relative(process.cwd(), to)}`);
  }
}
