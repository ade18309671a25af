import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');
const addon = process.env.EYRIE_ADDON ?? join(root, 'build/Release/eyrie.node');

// What every child begins with: the addon without the TypeScript around it, and a stream that is busy for minutes.
const PRELUDE = `
  const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
  const addon = require(${JSON.stringify(addon)});
  const open = () => addon.createStream('cpu', 2, '');
  const tensor = (s, n, value) => {
    const t = addon.alloc(s, 'f32', [1, n], false);
    addon.write(s, t, new Float32Array(n).fill(value));
    return t;
  };
  const sum = async (s, n = 8) => {
    const [x, y, out] = [tensor(s, n, 1), tensor(s, n, 2), tensor(s, n, 0)];
    addon.ops.add(s, x, y, 3, out);
    const result = new Float32Array(await addon.read(s, out));
    for (const t of [x, y, out]) addon.dispose(t);
    if (!result.every((v) => v === 7)) throw new Error('wrong sum: ' + result[0]);
    return result[0];
  };
  const busy = (s, launches = 50000, n = 1 << 22) => {
    const [x, y, out] = [tensor(s, n, 1), tensor(s, n, 2), tensor(s, n, 0)];
    for (let i = 0; i < launches; i++) addon.ops.add(s, x, y, 1, out);
    return out;
  };
`;

interface Ending {
  code: number | null;
  signal: string | null;
  output: string;
  seconds: number;
}

/** Runs a program in its own process. One that does not end by itself is killed after a minute, and its signal tells. */
function child(body: string, env: Record<string, string> = {}): Promise<Ending> {
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const process_ = spawn(process.execPath, ['-e', `${PRELUDE}\n(async () => {${body}})();`], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
      killSignal: 'SIGKILL',
    });
    let output = '';
    process_.stdout.on('data', (data) => {
      output += data;
    });
    process_.stderr.on('data', (data) => {
      output += data;
    });
    process_.on('error', reject);
    process_.on('close', (code, signal) =>
      resolve({ code, signal, output, seconds: (performance.now() - started) / 1000 }),
    );
  });
}

/** A worker that runs `body`; `workerData` is what the worker gets. */
const worker = (body: string): string =>
  `new Worker(${JSON.stringify(PRELUDE)} + ${JSON.stringify(`(async () => {${body}})();`)}, { eval: true })`;

describe.skipIf(!existsSync(addon))('a process with the addon', { timeout: 120_000 }, () => {
  it('ends by itself with an idle stream open', async () => {
    const end = await child(`const s = open(); console.log(await sum(s)); await addon.sync(s);`);
    expect(end).toMatchObject({ code: 0, signal: null, output: '7\n' });
  });

  it('ends by itself with streams and tensors that nobody refers to', async () => {
    const end = await child(
      `for (let i = 0; i < 20; i++) { const s = open(); tensor(s, 1000, 1); await sum(s); }`,
    );
    expect(end).toMatchObject({ code: 0, signal: null, output: '' });
  });

  it('lives until a pending read is there', async () => {
    const end = await child(
      `const s = open(); const out = busy(s, 50); addon.read(s, out).then((b) => console.log(b.byteLength));`,
    );
    expect(end).toMatchObject({ code: 0, signal: null, output: `${4 << 22}\n` });
  });

  it('process.exit gives its code at once while a stream is busy', async () => {
    const end = await child(`
      const s = open(); addon.read(s, busy(s)).catch(() => {});
      const before = performance.now();
      process.on('exit', () => console.log('at exit'));
      setTimeout(() => process.exit(7), 50);
    `);
    expect(end).toMatchObject({ code: 7, signal: null, output: 'at exit\n' });
  });

  it('an uncaught error gives exit code 1 while a stream is busy', async () => {
    const end = await child(
      `const s = open(); busy(s); setTimeout(() => { throw new Error('planted'); }, 50);`,
    );
    expect(end).toMatchObject({ code: 1, signal: null });
    expect(end.output).toContain('planted');
  });

  it('an unhandled rejection of a read gives exit code 1', async () => {
    const end = await child(`
      const s = open(); addon.read(s, busy(s)); setTimeout(() => addon.closeStream(s), 50);
    `);
    expect(end).toMatchObject({ code: 1, signal: null });
    expect(end.output).toContain('EYRIE_ABORTED');
  });

  it('ten workers load it, compute and end, and their memory comes back', async () => {
    const end = await child(`
      const run = () => new Promise((resolve, reject) => {
        const w = ${worker(`const s = open(); tensor(s, 100000, 1); parentPort.postMessage(await sum(s));`)};
        let got;
        w.on('message', (m) => { got = m; });
        w.on('error', reject);
        w.on('exit', (code) => code === 0 ? resolve(got) : reject(new Error('exit code ' + code)));
      });
      const results = await Promise.all(Array.from({ length: 10 }, run));
      console.log(results.join(), addon.memory().allocated, addon.memory().tensors);
    `);
    expect(end).toMatchObject({ code: 0, signal: null, output: '7,7,7,7,7,7,7,7,7,7 0 0\n' });
  });

  it('ten busy workers are terminated at once, and their memory comes back', async () => {
    const end = await child(`
      const run = () => new Promise((resolve, reject) => {
        const w = ${worker(`const s = open(); const out = busy(s, 2000, 1 << 20); addon.read(s, out).catch(() => {}); parentPort.postMessage('busy');`)};
        w.on('message', () => w.terminate());
        w.on('error', reject);
        w.on('exit', resolve);
      });
      await Promise.all(Array.from({ length: 10 }, run));
      console.log(addon.memory().allocated, addon.memory().streams);
    `);
    expect(end).toMatchObject({ code: 0, signal: null, output: '0 0\n' });
  });

  it('main thread and worker compute at the same time, each with handles of its own', async () => {
    const end = await child(`
      const w = ${worker(`
        const s = open();
        for (let i = 0; i < 200; i++) await sum(s, 1000 + i);
        parentPort.postMessage(addon.memory().tensors);
      `)};
      const ended = new Promise((resolve) => w.on('message', resolve));
      const s = open();
      for (let i = 0; i < 200; i++) await sum(s, 2000 + i);
      console.log(addon.memory().tensors, await ended);
    `);
    expect(end).toMatchObject({ code: 0, signal: null, output: '0 0\n' });
  });

  it('is loaded again after its worker has gone', async () => {
    const end = await child(`
      for (let i = 0; i < 5; i++) {
        const w = ${worker(`parentPort.postMessage(await sum(open()));`)};
        await new Promise((resolve) => w.on('exit', resolve));
      }
      console.log(await sum(open()));
    `);
    expect(end).toMatchObject({ code: 0, signal: null, output: '7\n' });
  });

  it('holds nothing after everything was disposed', async () => {
    const end = await child(`
      const s = open();
      for (let i = 0; i < 100; i++) await sum(s, 1 << 12);
      addon.closeStream(s);
      const m = addon.memory();
      console.log(m.tensors, m.streams, m.allocated, m.peak > 0);
    `);
    expect(end).toMatchObject({ code: 0, output: '0 0 0 true\n' });
  });

  it('an unknown EYRIE_CPU_LEVEL is EYRIE_NO_DEVICE, naming the levels', async () => {
    const end = await child(`try { open(); } catch (e) { console.log(e.code, e.message); }`, {
      EYRIE_CPU_LEVEL: 'avx1024',
    });
    expect(end.code).toBe(0);
    expect(end.output).toMatch(/^EYRIE_NO_DEVICE .*avx1024.*usable: baseline/);
  });

  it('EYRIE_CPU_LEVEL and EYRIE_THREADS choose', async () => {
    const end = await child(
      `const s = addon.createStream('cpu', 0, ''); console.log(JSON.stringify(addon.streamInfo(s)), await sum(s));`,
      { EYRIE_CPU_LEVEL: 'baseline', EYRIE_THREADS: '3' },
    );
    expect(end).toMatchObject({ code: 0, output: '{"name":"baseline","threads":3,"debug":false} 7\n' });
  });
});
