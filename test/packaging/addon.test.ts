import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { native } from '../../lib/native/load.ts';
import { add, cast, MappedFile, packWeight, Stream, Tensor } from '../../lib/ops/index.ts';

const file = join(import.meta.dirname, '../../build/Release/eyrie.node');
const sanitized = process.env.EYRIE_ADDON !== undefined;
const code = (expected: string) => expect.objectContaining({ code: expected });

/** What `use` throws; fails when it does not throw. */
function thrown(use: () => unknown): unknown {
  try {
    use();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('handles', () => {
  let s: Stream;
  beforeAll(() => {
    s = new Stream({ threads: 2 });
  });
  afterAll(() => {
    s.dispose();
  });
  const row = (n: number, value = 1): Tensor =>
    Tensor.from(s, 'f32', [1, n], new Float32Array(n).fill(value));

  it('a disposed tensor is EYRIE_DISPOSED in ops, reads, writes and views', async () => {
    const x = row(4);
    const y = row(4);
    x.dispose();
    x.dispose(); // idempotent
    expect(thrown(() => add({ x, y }))).toEqual(code('EYRIE_DISPOSED'));
    expect(thrown(() => add({ x, y }))).toHaveProperty(
      'message',
      expect.stringContaining('add: x is disposed'),
    );
    expect(thrown(() => x.write(new Float32Array(4)))).toEqual(code('EYRIE_DISPOSED'));
    expect(thrown(() => x.view([4]))).toEqual(code('EYRIE_DISPOSED'));
    await expect(x.read()).rejects.toEqual(code('EYRIE_DISPOSED'));
    y.dispose();
  });

  it('a handle is not valid for the tensor that takes its place', () => {
    const x = row(4);
    const old = x.handle;
    x.dispose();
    const y = row(4);
    expect(y.handle).not.toBe(old);
    expect(thrown(() => native().view(old, 'f32', [4], null, 0))).toEqual(code('EYRIE_DISPOSED'));
    y.dispose();
  });

  it('a tensor disposed while it is in use is freed after its use', async () => {
    const x = row(1 << 16, 1);
    const y = row(1 << 16, 2);
    const out = add({ x, y });
    x.dispose();
    y.dispose();
    expect((await out.read())[0]).toBe(3);
    out.dispose();
  });

  it('a view lives on when its tensor is disposed', async () => {
    const x = Tensor.from(s, 'f32', [2, 2], new Float32Array([1, 2, 3, 4]));
    const view = x.view([2], { offset: 2 });
    x.dispose();
    expect([...(await view.read())]).toEqual([3, 4]);
    view.dispose();
  });

  it('a view past the end of its tensor is EYRIE_SHAPE', () => {
    const x = row(8);
    expect(thrown(() => x.view([9]))).toEqual(code('EYRIE_SHAPE'));
    expect(thrown(() => x.view([4], { offset: 5 }))).toEqual(code('EYRIE_SHAPE'));
    expect(thrown(() => x.view([2, 2], { strides: [7, 1] }))).toEqual(code('EYRIE_SHAPE'));
    expect(thrown(() => x.view([2 ** 30, 2 ** 30], { strides: [2 ** 40, 2 ** 40] }))).toEqual(
      code('EYRIE_SHAPE'),
    );
    expect(thrown(() => x.view([1], { offset: -1 }))).toEqual(code('EYRIE_SHAPE'));
    x.dispose();
  });

  it('a disposed stream is EYRIE_DISPOSED, and its pending reads EYRIE_ABORTED', async () => {
    const t = new Stream({ threads: 1 });
    const n = 1 << 22;
    const [x, y, out] = [0, 1, 2].map(() => Tensor.empty(t, 'f32', [1, n]));
    for (let i = 0; i < 2000; i++) add({ x: x!, y: y!, out: out! });
    const pending = out!.read();
    t.dispose();
    t.dispose(); // idempotent
    await expect(pending).rejects.toEqual(code('EYRIE_ABORTED'));
    await expect(t.sync()).rejects.toEqual(code('EYRIE_DISPOSED'));
    expect(thrown(() => add({ x: x!, y: y!, out: out! }))).toEqual(code('EYRIE_DISPOSED'));
    for (const tensor of [x, y, out]) tensor!.dispose();
  });

  it('shapes that do not fit are EYRIE_SHAPE with the symbol, both sizes and the signature', () => {
    const x = row(4);
    const y = row(5);
    const error = thrown(() => add({ x, y })) as Error;
    expect(error).toEqual(code('EYRIE_SHAPE'));
    expect(error.message).toMatch(/^add: y has D=5, expected 4 .*x:f\[T,D\] y:f\[T,D\]/);
    const flat = x.view([4]);
    expect(thrown(() => add({ x: flat, y }))).toEqual(code('EYRIE_SHAPE'));
    for (const tensor of [x, y, flat]) tensor.dispose();
  });

  it('a wrong dtype is EYRIE_DTYPE, a wrong typed array too', () => {
    const x = row(4);
    const y = Tensor.empty(s, 'i32', [1, 4]);
    expect(thrown(() => add({ x, y }))).toEqual(code('EYRIE_DTYPE'));
    expect(thrown(() => x.write(new Int32Array(4)))).toEqual(code('EYRIE_DTYPE'));
    expect(thrown(() => x.write(new Float32Array(5)))).toEqual(code('EYRIE_SHAPE'));
    x.dispose();
    y.dispose();
  });

  it('impossible shapes and sizes are errors with numbers', () => {
    expect(thrown(() => Tensor.empty(s, 'f32', [-1]))).toEqual(code('EYRIE_SHAPE'));
    expect(thrown(() => Tensor.empty(s, 'f32', [1.5]))).toEqual(code('EYRIE_SHAPE'));
    expect(thrown(() => Tensor.empty(s, 'f32', [1, 1, 1, 1, 1, 1]))).toEqual(code('EYRIE_SHAPE'));
    expect(thrown(() => Tensor.empty(s, 'f32', [2 ** 31, 2 ** 31]))).toEqual(code('EYRIE_SHAPE'));
    const error = thrown(() => Tensor.empty(s, 'f32', [2 ** 48])) as Error;
    expect(error).toEqual(code('EYRIE_OUT_OF_MEMORY'));
    expect(error.message).toContain(String(2 ** 50));
  });

  it('arguments that are no tensors are errors, never crashes', () => {
    const { ops } = native();
    const x = row(4);
    const call = (ops as unknown as Record<string, (...args: unknown[]) => void>).add!;
    const wrong = [undefined, null, {}, [], 'x', true, Symbol('x'), 1n, () => 0];
    for (const value of wrong)
      expect(thrown(() => call(s.id, value, x.handle, 1, x.handle))).toEqual(code('EYRIE_INVALID_ARGUMENT'));
    for (const value of [0, -1, 0.5, Number.NaN, 1e300, 2 ** 53, Number.POSITIVE_INFINITY])
      expect(thrown(() => call(s.id, value, x.handle, 1, x.handle))).toEqual(code('EYRIE_DISPOSED'));
    for (const id of [undefined, null, {}, -1, 0, 1e9, Number.NaN])
      expect(thrown(() => call(id, x.handle, x.handle, 1, x.handle))).toHaveProperty('code');
    expect(thrown(() => call())).toEqual(code('EYRIE_INVALID_ARGUMENT'));
    expect(thrown(() => call(s.id, x.handle, x.handle, 'one', x.handle))).toEqual(
      code('EYRIE_INVALID_ARGUMENT'),
    );
    expect(thrown(() => call(s.id, x.handle, x.handle, Number.NaN, x.handle))).toEqual(
      code('EYRIE_INVALID_ARGUMENT'),
    );
    x.dispose();
  });

  it('options of a stream are checked', () => {
    expect(thrown(() => new Stream({ device: 'tpu' }))).toEqual(code('EYRIE_INVALID_ARGUMENT'));
    expect(thrown(() => new Stream({ level: 'mmx' }))).toEqual(code('EYRIE_NO_DEVICE'));
    for (const threads of [0, -1, 1.5, 100_000, Number.NaN])
      expect(thrown(() => new Stream({ threads }))).toEqual(code('EYRIE_INVALID_ARGUMENT'));
  });

  it('an error of a kernel comes with the next read and leaves the stream usable', async () => {
    const src = Tensor.from(s, 'f32', [2 * 32], new Float32Array(64).fill(1));
    const w = packWeight(src.view([256], { dtype: 'u8' }), 'f32', [2, 32]);
    const ids = Tensor.from(s, 'i32', [1], new Int32Array([5]));
    const { embed } = await import('../../lib/ops/index.ts');
    const out = embed({ table: w, ids });
    await expect(out.read()).rejects.toEqual(code('EYRIE_EXECUTION'));
    ids.write(new Int32Array([1]));
    embed({ table: w, ids, out });
    expect((await out.read())[0]).toBe(1);
  });

  it('everything disposed leaves no live tensor', () => {
    // Nothing is awaited inside: the collector would free what other tests left behind.
    const before = native().memory().tensors;
    const x = row(4);
    const y = row(4);
    const out = add({ x, y });
    const view = out.view([4]);
    expect(native().memory().tensors).toBe(before + 4);
    for (const tensor of [x, y, out, view]) tensor.dispose();
    expect(native().memory().tensors).toBe(before);
  });
});

describe('graphs', () => {
  it('replays what was captured, on the contents of that moment', async () => {
    using s = new Stream({ threads: 2 });
    using x = Tensor.from(s, 'f32', [1, 3], new Float32Array([1, 2, 3]));
    using y = Tensor.from(s, 'f32', [1, 3], new Float32Array([10, 10, 10]));
    using out = Tensor.empty(s, 'f32', [1, 3]);
    using graph = s.capture(() => {
      add({ x, y, out });
      add({ x: out, y, out });
    });
    expect([...(await out.read())]).toEqual([0, 0, 0]); // recorded, not run
    graph.launch();
    expect([...(await out.read())]).toEqual([21, 22, 23]);
    x.write(new Float32Array([0, 0, 1]));
    graph.launch();
    graph.launch();
    expect([...(await out.read())]).toEqual([20, 20, 21]);
  });

  it('refuses reads, writes, launches and another capture inside a capture, and goes on', async () => {
    using s = new Stream({ threads: 1 });
    using x = Tensor.from(s, 'f32', [1, 1], new Float32Array([1]));
    using other = s.capture(() => {});
    let read: Promise<unknown> = Promise.resolve();
    using graph = s.capture(() => {
      read = x.read();
      read.catch(() => {});
      expect(thrown(() => x.write(new Float32Array([2])))).toEqual(code('EYRIE_INVALID_ARGUMENT'));
      expect(thrown(() => other.launch())).toEqual(code('EYRIE_INVALID_ARGUMENT'));
      expect(thrown(() => native().beginCapture(s.id))).toEqual(code('EYRIE_INVALID_ARGUMENT'));
      add({ x, y: x, out: x });
    });
    await expect(read).rejects.toEqual(code('EYRIE_INVALID_ARGUMENT'));
    graph.launch();
    expect([...(await x.read())]).toEqual([2]);
  });

  it('a capture whose callback throws is closed', async () => {
    using s = new Stream({ threads: 1 });
    using x = Tensor.from(s, 'f32', [1, 1], new Float32Array([1]));
    expect(() =>
      s.capture(() => {
        throw new Error('planted');
      }),
    ).toThrow('planted');
    expect([...(await x.read())]).toEqual([1]);
  });

  it('keeps the memory of its tensors, and is EYRIE_DISPOSED after dispose', async () => {
    using s = new Stream({ threads: 1 });
    using out = Tensor.empty(s, 'f32', [1, 2]);
    const x = Tensor.from(s, 'f32', [1, 2], new Float32Array([1, 2]));
    const graph = s.capture(() => {
      add({ x, y: x, out });
    });
    x.dispose();
    graph.launch();
    expect([...(await out.read())]).toEqual([2, 4]);
    graph.dispose();
    graph.dispose(); // idempotent
    expect(thrown(() => graph.launch())).toEqual(code('EYRIE_DISPOSED'));
  });
});

describe('mapped files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'eyrie-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('are read-only, may be misaligned, and must have the size that was promised', async () => {
    using s = new Stream({ threads: 1 });
    const path = join(folder, 'x.bin');
    writeFileSync(path, Buffer.concat([Buffer.from([7]), Buffer.from(new Float32Array([1, 2, 3]).buffer)]));
    expect(thrown(() => new MappedFile(s, path, 12))).toEqual(code('EYRIE_FILE'));
    expect(thrown(() => new MappedFile(s, join(folder, 'none'), 12))).toEqual(code('EYRIE_FILE'));
    expect(thrown(() => new MappedFile(s, folder, 4096))).toEqual(code('EYRIE_FILE'));
    using mapped = new MappedFile(s, path, 13);
    using view = mapped.view('f32', [3], 1);
    using out = cast(view, 'f32');
    expect([...(await out.read())]).toEqual([1, 2, 3]);
    expect(thrown(() => view.write(new Float32Array(3)))).toEqual(code('EYRIE_INVALID_ARGUMENT'));
    expect(thrown(() => cast(out, 'f32', view))).toEqual(code('EYRIE_INVALID_ARGUMENT'));
    expect(thrown(() => mapped.view('f32', [4], 0))).toEqual(code('EYRIE_SHAPE'));
    mapped.discard(view);
    await s.sync();
  });
});

describe('the machine and the binary', () => {
  const { cuda, levels } = native().machine();

  it('baseline is always there', () => {
    expect(levels).toContain('baseline');
  });

  it.runIf(process.env.EYRIE_CUDA === 'ON' && !sanitized)('has CUDA, as EYRIE_CUDA=ON asked', () => {
    expect(cuda.built).toBe(true);
  });

  it.runIf(cuda.devices === 0)(
    'without a usable GPU, device cuda is EYRIE_NO_DEVICE and says what to do',
    () => {
      const error = thrown(() => new Stream({ device: 'cuda' })) as Error;
      expect(error).toEqual(code('EYRIE_NO_DEVICE'));
      expect(error.message).toMatch(cuda.built ? /driver|GPU/ : /built without CUDA.*eyrie build --cuda/);
    },
  );

  const skip = sanitized || !existsSync(file) || spawnSync('nm', ['--version']).status !== 0;
  it.skipIf(skip)(
    `needs the C library only, CUDA or not${skip ? ' (skipped: no addon or no nm)' : ''}`,
    () => {
      const needed = [
        ...spawnSync('readelf', ['-d', file], { encoding: 'utf8' }).stdout.matchAll(/NEEDED.*\[(.*)\]/g),
      ];
      for (const [, name] of needed)
        expect(name).toMatch(/^(libc|libm|libpthread|libdl|librt|ld-linux-x86-64)\.so/);
    },
  );

  it.skipIf(skip)('exports the two N-API symbols and nothing else', () => {
    const { stdout } = spawnSync('nm', ['-D', '--defined-only', '-j', file], { encoding: 'utf8' });
    const symbols = stdout.trim().split('\n').sort();
    expect(symbols).toEqual(['napi_register_module_v1', 'node_api_module_get_api_version_v1']);
  });
});
