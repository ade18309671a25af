import { describe, expect, it } from 'vitest';
import { ERROR_CODES } from '../../lib/errors.ts';
import { native } from '../../lib/native/load.ts';
import { OPS } from '../../lib/native/ops.gen.ts';
import { backends } from '../helpers/describe-op.ts';
import { Random } from '../helpers/random.ts';
import { Calls, parse } from './calls.ts';

// Every op is called with tensors of random shapes, dtypes and contents: what the signature and the value checks do not
// refuse, the kernels must survive. Means most under the sanitizers (npm run test:asan). EYRIE_FUZZ=20000 runs more.
const rounds = Number(process.env.EYRIE_FUZZ ?? 200);
const addon = native();

describe('random calls', () => {
  for (const { name: where, device, level } of backends) {
    it.each(OPS)(
      `$name survives (${where})`,
      { timeout: 60_000 + rounds * 100 },
      async ({ name, signature }) => {
        const stream = addon.createStream(device, 2, level);
        const calls = new Calls(addon, stream, new Random(name.length * 31 + level.length));
        const args = parse(signature);
        const seen = new Map<string, number>();
        for (let i = 0; i < rounds; i++) {
          const result = await calls.once(name, args);
          seen.set(result, (seen.get(result) ?? 0) + 1);
        }
        addon.closeStream(stream);
        for (const result of seen.keys()) expect(['ok', ...Object.keys(ERROR_CODES)]).toContain(result);
        // Many must get through, or nothing but the door was tested.
        if (rounds >= 200)
          expect(seen.get('ok') ?? 0, JSON.stringify([...seen])).toBeGreaterThan(rounds / 10);
        expect(addon.memory().tensors).toBe(0);
      },
    );
  }
});
