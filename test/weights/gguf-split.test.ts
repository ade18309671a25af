import { basename } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openWeights } from '../../lib/weights/index.ts';
import { gguf, type Pair, temporaryFolder, V } from './write.ts';

const { write } = temporaryFolder();

describe('split GGUF', () => {
  const split = (no: number, count: number, total: number): Pair[] => [
    ['split.no', V.u16, no],
    ['split.count', V.u16, count],
    ['split.tensors.count', V.i32, total],
  ];
  const part = (prefix: string, number: number, count: number) =>
    `${prefix}-0000${number}-of-0000${count}.gguf`;
  const writePart = (prefix: string, no: number, total = 3, name = `t${no}`, pairs = split(no, 3, total)) =>
    write(part(prefix, no + 1, 3), gguf({ pairs, tensors: [{ name, dims: [no + 1] }] }));

  it('opens all parts from the first', async () => {
    const paths = [0, 1, 2].map((no) => writePart('good', no));
    const file = await openWeights(paths[0]!);
    expect([...file.tensors.keys()]).toEqual(['t0', 't1', 't2']);
    expect(file.files.map((entry) => entry.path)).toEqual(paths);
    expect(file.tensors.get('t2')!.file).toBe(paths[2]);
    expect(file.totalBytes).toBe(4 + 8 + 12);
  });

  it('opens a single file that is named as part 1 of 1', async () => {
    const path = write('one-00001-of-00001.gguf', gguf({ tensors: [{ name: 'a', dims: [1] }] }));
    expect((await openWeights(path)).files).toHaveLength(1);
  });

  const faults: [string, () => string, string, RegExp][] = [
    [
      'missing parts',
      () => writePart('gone', 0),
      'EYRIE_FILE',
      /2 missing: "gone-00002-of-00003.gguf", "gone-00003/,
    ],
    [
      'a later part',
      () => writePart('later', 1),
      'EYRIE_GGUF',
      /part 2 of 3.*Open "later-00001-of-00003.gguf"/,
    ],
    [
      'a part under another name',
      () => write('renamed.gguf', gguf({ pairs: split(0, 3, 3) })),
      'EYRIE_GGUF',
      /name with its part number, got "renamed.gguf"/,
    ],
    [
      'a name that claims parts',
      () => write('claims-00001-of-99999.gguf', gguf({})),
      'EYRIE_GGUF',
      /99999 parts, got split.count 1/,
    ],
    [
      'parts in the wrong order',
      () => {
        writePart('order', 1, 3, 't1', split(2, 3, 3));
        writePart('order', 2, 3, 't2', split(1, 3, 3));
        return writePart('order', 0);
      },
      'EYRIE_GGUF',
      /split.no 1 of split.count 3, got split.no 2/,
    ],
    [
      'a part without split keys',
      () => {
        writePart('plain', 1, 3, 't1', []);
        writePart('plain', 2);
        return writePart('plain', 0);
      },
      'EYRIE_GGUF',
      /"split.no": expected integer, got no such key/,
    ],
    [
      'a tensor in two parts',
      () => {
        writePart('twice', 1, 3, 't0');
        writePart('twice', 2);
        return writePart('twice', 0);
      },
      'EYRIE_GGUF',
      /duplicate tensor "t0".*twice-00001-of-00003/,
    ],
    [
      'a wrong total',
      () => {
        writePart('total', 1);
        writePart('total', 2);
        return writePart('total', 0, 4);
      },
      'EYRIE_GGUF',
      /split.tensors.count 4, got 3/,
    ],
    [
      'a truncated part',
      () => {
        const path = writePart('short', 1);
        write(
          basename(path),
          gguf({ pairs: split(1, 3, 3), tensors: [{ name: 't1', dims: [9], bytes: 4 }] }),
        );
        writePart('short', 2);
        return writePart('short', 0);
      },
      'EYRIE_GGUF',
      /short-00002-of-00003.gguf: tensor "t1": past the end/,
    ],
  ];
  it.each(faults)('refuses %s', async (_, make, code, message) => {
    const error = await openWeights(make()).catch((e) => e);
    expect(error).toMatchObject({ name: 'EyrieError', code });
    expect(error.message).toMatch(message);
  });
});
