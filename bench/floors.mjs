// What the machine can do at best, measured in the run that judges the ops by it.
import { Worker } from 'node:worker_threads';
import { ACTIVATIONS, add, linear } from '../dist/ops/index.js';
import { blockBytes, FORMATS, filled, randomWeight } from './data.mjs';

/**
 * (func (export "sum") (param $bytes i32)): reads memory [0, bytes) in steps of 128 bytes into eight accumulators, so that
 * loads do not wait for additions. Assembled by hand, since the package has no WebAssembly tools.
 */
function reader() {
  const leb = (n) => {
    const out = [];
    do {
      out.push((n & 127) | (n > 127 ? 128 : 0));
      n >>>= 7;
    } while (n);
    return out;
  };
  const vector = (bytes) => [...leb(bytes.length), ...bytes];
  const section = (id, bytes) => [id, ...vector(bytes)];
  const text = (s) => vector([...s].map((c) => c.charCodeAt(0)));
  const [simd, load, i32x4add] = [0xfd, [0x00], [0xae, 0x01]];
  const loop = [];
  // Local 0: bytes, 1: at, 2..9: accumulators.
  for (let i = 0; i < 8; i++) {
    loop.push(0x20, 2 + i, 0x20, 1, simd, ...load, 4, ...leb(16 * i), simd, ...i32x4add, 0x21, 2 + i);
  }
  loop.push(0x20, 1, 0x41, ...[0x80, 0x01], 0x6a, 0x22, 1, 0x20, 0, 0x49, 0x0d, 0);
  const fold = [0x20, 2];
  for (let i = 1; i < 8; i++) fold.push(0x20, 2 + i, simd, ...i32x4add);
  // The sum is returned: a loop whose result nobody sees may be dropped.
  fold.push(simd, 0x1b, 0);
  const body = [2, 1, 0x7f, 8, 0x7b, 0x03, 0x40, ...loop, 0x0b, ...fold, 0x0b];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 1, 0x7f, 1, 0x7f]),
    ...section(2, [1, ...text('m'), ...text('m'), 2, 0, 1]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...text('sum'), 0, 0]),
    ...section(10, [1, ...vector(body)]),
  ]);
}

const WORKER = `
const { workerData: d, parentPort } = require('node:worker_threads');
const memory = new WebAssembly.Memory({ initial: d.bytes / 65536 });
new Uint8Array(memory.buffer).fill(1);
const { sum } = new WebAssembly.Instance(new WebAssembly.Module(d.code), { m: { m: memory } }).exports;
const gate = new Int32Array(d.gate);
for (let i = 0; i < d.warm; i++) sum(d.bytes);
Atomics.add(gate, 0, 1);
while (Atomics.load(gate, 0) < d.threads);
const start = performance.now();
let passes = 0;
do { sum(d.bytes); passes++; } while (performance.now() - start < d.ms);
parentPort.postMessage((passes * d.bytes) / (performance.now() - start) / 1e6);
`;

/** GB/s that `threads` threads read together, each from its own `bytes` bytes; no code of ours in it. */
export async function readBandwidth(threads, bytes, ms) {
  const code = reader();
  const gate = new SharedArrayBuffer(4);
  const rates = await Promise.all(
    Array.from({ length: threads }, () => {
      const worker = new Worker(WORKER, {
        eval: true,
        workerData: { code, bytes, gate, threads, ms, warm: bytes > 1e7 ? 1 : 100 },
      });
      return new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    }),
  );
  return rates.reduce((a, b) => a + b, 0);
}

/**
 * @typedef {object} Floors
 * @property {number} memory GB/s from memory
 * @property {number} cache GB/s from the cores' own caches
 * @property {{ bf16: number, f32: number }} compute GFLOP/s by what activations are rounded to
 * @property {number} launch µs of an op that does nothing, inside a graph
 * @property {Record<string, number>} parts what each floor is the best of
 */

/**
 * Each floor is the best of what was tried: a floor below what an op reaches would be none.
 * @param {(calls: (() => void)[]) => Promise<{ min: number }>} time µs of one call
 * @returns {Promise<Floors>}
 */
export async function measureFloors(stream, time, quick) {
  const parts = {};
  const threads = stream.threads;
  const big = (quick ? 64 : 256) * 2 ** 20;
  parts['memory: WebAssembly reader'] = await readBandwidth(threads, big, quick ? 300 : 1000);
  parts['cache: WebAssembly reader'] = await readBandwidth(threads, 2 ** 17, 200);

  const adding = async (rows, columns) => {
    const [x, y, out] = [0, 1, 2].map(() => filled(stream, 'f32', [rows, columns]));
    const { min } = await time([() => add({ x, y, out })]);
    for (const t of [x, y, out]) t.dispose();
    return { us: min, gbps: (12 * rows * columns) / min / 1e3 };
  };
  // Several times: for as long as two workers share a core, it is the time of a switch.
  let launch = Infinity;
  for (let i = 0; i < 5; i++) {
    launch = Math.min(launch, (await adding(1, 1)).us);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  for (const rows of [8, 16, 32]) {
    parts[`cache: add [${rows},1024]`] = (await adding(rows, 1024)).gbps;
  }
  parts['memory: add'] = (await adding(quick ? 2048 : 8192, 4096)).gbps;

  const product = async (format, [m, n, k], activations) => {
    const w = randomWeight(stream, format, [n, k]);
    const [x, out] = [filled(stream, 'f32', [m, k]), filled(stream, 'f32', [m, n])];
    const { min } = await time([() => linear({ x, w, out, activations })]);
    for (const t of [w, x, out]) t.dispose();
    return { gflops: (2 * m * n * k) / min / 1e3, gbps: (n * k * blockBytes(format)) / 32 / min / 1e3 };
  };
  parts['memory: linear f32'] = (await product('f32', [1, quick ? 4096 : 16384, 4096], ACTIVATIONS.f32)).gbps;
  const compute = { bf16: 0, f32: 0 };
  for (const mode of /** @type {const} */ (['f32', 'bf16'])) {
    for (const format of FORMATS) {
      if (mode === 'f32' && format !== 'f32' && format !== 'f16') continue;
      for (const m of [64, 128]) {
        const shape = [m, 256 * threads, 256];
        const { gflops } = await product(format, shape, ACTIVATIONS[mode]);
        parts[`compute ${mode}: linear ${format} [${shape}]`] = gflops;
        compute[mode] = Math.max(compute[mode], gflops);
      }
    }
  }
  const best = (kind) =>
    Math.max(...Object.entries(parts).flatMap(([name, x]) => (name.startsWith(kind) ? [x] : [])));
  return { memory: best('memory:'), cache: best('cache:'), compute, launch, parts };
}

/** The least time in µs that a case can take, and what bounds it. */
export function floorOf(floors, { cold = 0, warm = 0, flops = 0, mode = 'f32' }) {
  const bounds = {
    launch: floors.launch,
    memory: cold / floors.memory / 1e3,
    cache: warm / floors.cache / 1e3,
    compute: flops / floors.compute[mode] / 1e3,
  };
  const [bound, us] = Object.entries(bounds).reduce((a, b) => (b[1] > a[1] ? b : a));
  return { bound, us };
}
