import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { native } from '../../lib/native/load.ts';
import { OPS } from '../../lib/native/ops.gen.ts';
import { Stream } from '../../lib/ops/index.ts';
import { CASES, type Case, Scope } from './cases.ts';

/** All orders of threads, with copies that land late and early; several seeds of the random one. */
const SCHEDULES = [0, 1, 2, 3, 4]
  .flatMap((order) => [0, 1].map((eager) => `order=${order},eager=${eager},seed=${order + eager + 1}`))
  .concat('order=2,eager=0,seed=77,workers=3', 'order=2,eager=1,seed=1234,workers=1');

/** The bytes of everything that a case wrote, or that its op has no CUDA kernel. */
async function run(stream: Stream, { call }: Case): Promise<Uint8Array[] | 'no kernel'> {
  const s = new Scope(stream);
  try {
    const outputs = call(s);
    return await Promise.all(
      outputs.map(async (t) => new Uint8Array(await native().read(stream.id, t.handle))),
    );
  } catch (error) {
    if (/has no CUDA kernel yet/.test((error as Error).message)) return 'no kernel';
    throw error;
  } finally {
    s.dispose();
  }
}

/** With EYRIE_TEST_DIGESTS (scripts/kernel-mutations.mjs): the first run writes what ops computed there, later ones must agree. */
const digestsPath = process.env.EYRIE_TEST_DIGESTS;
const digests: Record<string, string> =
  digestsPath && existsSync(digestsPath) ? JSON.parse(readFileSync(digestsPath, 'utf8')) : {};

function compareDigest(name: string, bytes: readonly Uint8Array[]): void {
  if (!digestsPath) return;
  const hash = createHash('sha256');
  for (const b of bytes) hash.update(b);
  const digest = hash.digest('hex');
  expect(digest, `${name}: other bits than before`).toBe(digests[name] ?? digest);
  digests[name] = digest;
  writeFileSync(digestsPath, JSON.stringify(digests));
}

describe.runIf(native().machine().cuda.emulated)('schedules of the emulation', () => {
  const streams: { schedule: string; stream: Stream }[] = [];
  beforeAll(() => {
    for (const schedule of SCHEDULES)
      streams.push({ schedule, stream: new Stream({ device: 'emulated', level: schedule }) });
  });
  afterAll(() => {
    for (const { stream } of streams) stream.dispose();
  });

  it('a schedule that is none is refused', () => {
    expect(() => new Stream({ device: 'emulated', level: 'order=9' })).toThrow(/a schedule is order=0\.\.4/);
  });

  for (const { name: op } of OPS) {
    it(`${op}: the same bits under ${SCHEDULES.length} schedules`, { timeout: 300_000 }, async (context) => {
      const cases = CASES[op];
      expect(cases?.length, `${op} has no case in test/cuda/cases.ts`).toBeGreaterThan(0);
      for (const one of cases) {
        const want = await run(streams[0]!.stream, one);
        if (want === 'no kernel') return context.skip('no CUDA kernel yet');
        compareDigest(`${op} ${one.what}`, want);
        for (const { schedule, stream } of streams.slice(1)) {
          const got = await run(stream, one);
          const same = got !== 'no kernel' && got.every((bytes, i) => Buffer.compare(bytes, want[i]!) === 0);
          expect(same, `${op} ${one.what}: other bits with ${schedule}`).toBe(true);
        }
      }
    });
  }
});
