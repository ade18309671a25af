import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EyrieError } from '../../lib/errors.ts';
import { native } from '../../lib/native/load.ts';
import { add } from '../../lib/ops/index.ts';
import { Arena, Stream, Tensor } from '../../lib/tensor/index.ts';

describe('Tensor', () => {
  let stream: Stream;
  beforeAll(() => {
    stream = new Stream({ threads: 2 });
  });
  afterAll(() => {
    expect(native().memory().tensors).toBe(0);
    stream.dispose();
  });

  it.each([
    ['f32', Float32Array.of(1.5, -0, Number.NaN, Number.POSITIVE_INFINITY)],
    ['i32', Int32Array.of(1, -2, 2 ** 31 - 1, -(2 ** 31))],
    ['u8', Uint8Array.of(0, 1, 128, 255)],
    ['u16', Uint16Array.of(0, 1, 65535, 77)],
    ['f16', Uint16Array.of(0, 1, 0x7c00, 77)],
    ['bf16', Uint16Array.of(0, 1, 0x7f80, 77)],
  ] as const)('keeps %s values', async (dtype, data) => {
    using t = Tensor.from(stream, dtype, [2, 2], data);
    expect(await t.read()).toEqual(data);
  });

  it('starts as zeros, also when it is large, and when it is empty', async () => {
    using small = Tensor.empty(stream, 'f32', [3]);
    using large = Tensor.empty(stream, 'u8', [5 << 20]);
    using none = Tensor.empty(stream, 'f32', [0, 7]);
    expect(await small.read()).toEqual(new Float32Array(3));
    expect((await large.read()).every((x) => x === 0)).toBe(true);
    expect(await none.read()).toEqual(new Float32Array(0));
  });

  it('copies what is written before write returns', async () => {
    const data = Float32Array.of(1, 2);
    using t = Tensor.from(stream, 'f32', [2], data);
    data.fill(9);
    expect(await t.read()).toEqual(Float32Array.of(1, 2));
  });

  it('views share memory, outlive their parent and stay inside it', async () => {
    const t = Tensor.from(stream, 'f32', [2, 3], Float32Array.of(1, 2, 3, 4, 5, 6));
    using row = t.view([3], { offset: 3 });
    using bits = t.view([6], { dtype: 'i32' });
    expect(await row.read()).toEqual(Float32Array.of(4, 5, 6));
    expect((await bits.read())[0]).toBe(0x3f800000);
    using column = t.view([2, 1], { strides: [3, 1], offset: 1 });
    await expect(column.read()).rejects.toMatchObject({ code: 'EYRIE_SHAPE' });
    for (const bad of [
      () => t.view([7]),
      () => t.view([3], { offset: 4 }),
      () => t.view([2, 2], { strides: [5, 1] }),
      () => t.view([1], { offset: -1 }),
      () => t.view([2], { strides: [2 ** 52] }),
      () => row.view([4]),
    ]) {
      expect(bad).toThrowError(expect.objectContaining({ code: 'EYRIE_SHAPE' }));
    }
    t.dispose();
    expect(await row.read()).toEqual(Float32Array.of(4, 5, 6));
    expect(() => t.view([1])).toThrowError(expect.objectContaining({ code: 'EYRIE_DISPOSED' }));
  });

  it.each([
    ['a wrong typed array', () => Tensor.from(stream, 'f32', [1], Int32Array.of(1)), 'EYRIE_DTYPE'],
    ['a length that does not fit', () => Tensor.from(stream, 'f32', [3], Float32Array.of(1)), 'EYRIE_SHAPE'],
    ['a negative size', () => Tensor.empty(stream, 'f32', [-1]), 'EYRIE_SHAPE'],
    ['a fractional size', () => Tensor.empty(stream, 'f32', [1.5]), 'EYRIE_SHAPE'],
    ['too many dimensions', () => Tensor.empty(stream, 'f32', [1, 1, 1, 1, 1, 1]), 'EYRIE_SHAPE'],
    ['sizes that overflow', () => Tensor.empty(stream, 'f32', [2 ** 40, 2 ** 40]), 'EYRIE_SHAPE'],
    ['more bytes than an address space', () => Tensor.empty(stream, 'f32', [2 ** 48]), 'EYRIE_OUT_OF_MEMORY'],
    ['an unknown dtype', () => Tensor.empty(stream, 'f64' as never, [1]), 'EYRIE_DTYPE'],
    ['a block format as a dense tensor', () => Tensor.empty(stream, 'q4_0' as never, [32]), 'EYRIE_DTYPE'],
  ])('refuses %s', (_, make, code) => {
    const before = native().memory().tensors;
    let made: Tensor | undefined;
    expect(() => {
      made = make();
    }).toThrowError(expect.objectContaining({ code }));
    made?.dispose();
    expect(native().memory().tensors).toBe(before);
  });

  it('refuses shapes and dtypes that an op does not fit, naming argument and sizes', () => {
    using x = Tensor.empty(stream, 'f32', [2, 64]);
    using y = Tensor.empty(stream, 'f32', [2, 65]);
    using z = Tensor.empty(stream, 'i32', [2, 64]);
    using flat = Tensor.empty(stream, 'f32', [128]);
    expect(() => add({ x, y })).toThrow(/add: y has D=65, expected 64 {2}\(x:f\[T,D\]/);
    expect(() => add({ x, y: z })).toThrow(EyrieError);
    expect(() => add({ x, y: z })).toThrowError(expect.objectContaining({ code: 'EYRIE_DTYPE' }));
    expect(() => add({ x, y: flat })).toThrowError(expect.objectContaining({ code: 'EYRIE_SHAPE' }));
    expect(() => add({ x, y: x, alpha: Number.NaN })).toThrowError(
      expect.objectContaining({ code: 'EYRIE_INVALID_ARGUMENT' }),
    );
    using whole = Tensor.empty(stream, 'f32', [130]);
    using a = whole.view([1, 64]);
    using b = whole.view([1, 64], { offset: 32 });
    expect(() => add({ x: a, y: a, out: b })).toThrow(/overlaps/);
  });

  it('an error of a kernel reaches the next read, once', async () => {
    const { embed, packWeight } = await import('../../lib/ops/index.ts');
    using bytes = Tensor.empty(stream, 'u8', [4 * 32 * 4]);
    using table = packWeight(bytes, 'f32', [4, 32]);
    using ids = Tensor.from(stream, 'i32', [1], Int32Array.of(4));
    using out = embed({ table, ids });
    await expect(out.read()).rejects.toMatchObject({
      name: 'EyrieError',
      code: 'EYRIE_EXECUTION',
      message: expect.stringContaining('embed'),
    });
    await out.read();
  });
});

describe('Graph', () => {
  it('replays calls on what the tensors hold now', async () => {
    using stream = new Stream({ threads: 1 });
    using x = Tensor.from(stream, 'f32', [1, 2], Float32Array.of(1, 2));
    using out = Tensor.empty(stream, 'f32', [1, 2]);
    using graph = stream.capture(() => {
      add({ x, y: x, alpha: 2, out });
      add({ x: out, y: x, out });
    });
    expect(await out.read()).toEqual(Float32Array.of(0, 0));
    graph.launch();
    expect(await out.read()).toEqual(Float32Array.of(4, 8));
    x.write(Float32Array.of(10, 20));
    graph.launch();
    expect(await out.read()).toEqual(Float32Array.of(40, 80));
    expect(() => stream.capture(() => x.write(Float32Array.of(0, 0)))).toThrow(/during capture/);
    graph.launch(); // a failed capture leaves nothing open
    await stream.sync();
  });
});

describe('together', () => {
  const spin = (ms: number): void => {
    const end = performance.now() + ms;
    while (performance.now() < end);
  };

  it('starts nothing before its callback returns', async () => {
    using stream = new Stream({ threads: 1 });
    using out = Tensor.empty(stream, 'f32', [1, 2]);
    await stream.sync();
    let during = 0;
    const read = stream.together(() => {
      const x = Tensor.from(stream, 'f32', [1, 2], Float32Array.of(1, 2));
      add({ x, y: x, out });
      const pending = out.read();
      const before = native().memory().allocated;
      x.dispose(); // the launch alone still holds it
      spin(100);
      during = before - native().memory().allocated;
      return pending;
    });
    expect(during).toBe(0);
    expect(await read).toEqual(Float32Array.of(2, 4));
  });

  it('starts what a callback enqueued that throws, and goes on', async () => {
    using stream = new Stream({ threads: 1 });
    using x = Tensor.from(stream, 'f32', [1, 1], Float32Array.of(3));
    expect(() =>
      stream.together(() => {
        add({ x, y: x, out: x });
        throw new Error('planted');
      }),
    ).toThrow('planted');
    expect(await x.read()).toEqual(Float32Array.of(6));
  });

  it('gives EYRIE_ABORTED to reads of a stream that is closed meanwhile', async () => {
    const stream = new Stream({ threads: 1 });
    using x = Tensor.from(stream, 'f32', [1, 1], Float32Array.of(3));
    let read: Promise<unknown> | undefined;
    expect(() =>
      stream.together(() => {
        read = x.read();
        stream.dispose();
      }),
    ).toThrow(/closed/);
    await expect(read).rejects.toMatchObject({ code: 'EYRIE_ABORTED' });
  });
});

describe('Arena', () => {
  it('hands out aligned pieces until it is full, and takes them back', async () => {
    using stream = new Stream({ threads: 1 });
    using arena = new Arena(stream, Arena.bytesFor([{ shape: [3] }, { shape: [2, 2] }]));
    const a = arena.take('f32', [3]);
    const b = arena.take('f32', [2, 2]);
    a.write(Float32Array.of(1, 2, 3));
    b.write(Float32Array.of(4, 5, 6, 7));
    expect(await a.read()).toEqual(Float32Array.of(1, 2, 3));
    expect(arena.used).toBe(128);
    expect(() => arena.take('u8', [1])).toThrowError(
      expect.objectContaining({ code: 'EYRIE_OUT_OF_MEMORY' }),
    );
    arena.reset();
    expect(() => a.write(Float32Array.of(1, 2, 3))).toThrowError(
      expect.objectContaining({ code: 'EYRIE_DISPOSED' }),
    );
    expect(await arena.take('f32', [7]).read()).toEqual(Float32Array.of(1, 2, 3, 0, 0, 0, 0));
  });
});
