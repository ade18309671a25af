import { describe, expect, it } from 'vitest';
import { PartQueue } from '../../lib/engine/part-queue.ts';

const make = () => {
  let left = 0;
  const queue = new PartQueue<number>(() => left++);
  return { queue, left: () => left };
};

async function all(queue: PartQueue<number>): Promise<number[]> {
  const got: number[] = [];
  for await (const v of queue) got.push(v);
  return got;
}

describe('PartQueue', () => {
  it('delivers what was made before and after a consumer came, in order', async () => {
    const { queue, left } = make();
    for (let i = 0; i < 3000; i++) queue.push(i);
    const got = all(queue);
    for (let i = 3000; i < 3010; i++) {
      await null;
      queue.push(i);
    }
    queue.end();
    queue.push(-1); // behind the end: nobody wants it
    expect(await got).toEqual(Array.from({ length: 3010 }, (_, i) => i));
    expect(left()).toBe(0);
    expect(await all(queue)).toEqual([]); // each value is delivered once
  });

  it('gives waiting consumers one value each, then the end', async () => {
    const { queue } = make();
    const pending = [queue.next(), queue.next(), queue.next()];
    queue.push(1);
    queue.push(2);
    queue.end();
    expect(await Promise.all(pending)).toEqual([
      { value: 1, done: false },
      { value: 2, done: false },
      { value: undefined, done: true },
    ]);
  });

  it('throws an error behind the values that came before it, once', async () => {
    const { queue } = make();
    queue.push(1);
    queue.end({ is: new Error('broken') });
    expect(await queue.next()).toEqual({ value: 1, done: false });
    await expect(queue.next()).rejects.toThrow('broken');
    expect((await queue.next()).done).toBe(true);

    const waiting = make().queue;
    const next = waiting.next();
    waiting.end({ is: 'even a string' });
    await expect(next).rejects.toBe('even a string');
  });

  it('tells the producer when a consumer leaves before the end, not when it leaves behind it', async () => {
    const { queue, left } = make();
    queue.push(1);
    queue.push(2);
    for await (const _ of queue) break;
    expect(left()).toBe(1);
    await expect(
      (async () => {
        for await (const _ of queue) throw new Error('mine');
      })(),
    ).rejects.toThrow('mine');
    expect(left()).toBe(2);
    const ended = make();
    ended.queue.push(1);
    ended.queue.end();
    for await (const _ of ended.queue) break;
    expect(ended.left()).toBe(0);
  });
});
