import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { native } from '../../lib/native/load.ts';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const cxx = process.env.CXX ?? 'g++';
const reason = !native().machine().cuda.emulated
  ? 'npm run test:emulated'
  : spawnSync(cxx, ['--version']).status !== 0
    ? `${cxx} is not here`
    : null;
const sources = readdirSync(join(root, 'csrc/emulation')).filter(
  (f) => f.endsWith('.cc') && f !== 'backend.cc',
);

function build(name: string, flags: string[]): string {
  const folder = join(root, 'build/emulation');
  mkdirSync(folder, { recursive: true });
  const program = join(folder, name);
  const { status, stderr } = spawnSync(
    cxx,
    [
      ...[
        '-std=c++20',
        '-O1',
        '-ffp-contract=off',
        '-DEYRIE_EMULATED=1',
        `-I${join(root, 'csrc')}`,
        ...flags,
      ],
      join(root, 'test/cuda/emulation_test.cc'),
      ...sources.map((file) => join(root, 'csrc/emulation', file)),
      ...['-o', program, '-lpthread'],
    ],
    { encoding: 'utf8' },
  );
  expect(status, stderr).toBe(0);
  return program;
}

/** The emulation of CUDA, by itself: test/cuda/emulation_test.cc. */
for (const [name, flags] of [
  ['its own context switch', []],
  ['ucontext', ['-DEMULATION_UCONTEXT']],
] as const) {
  const title = `the emulation of CUDA keeps CUDA's promises: ${name}${reason ? ` (skipped: ${reason})` : ''}`;
  it.skipIf(reason !== null)(title, { timeout: 300_000 }, () => {
    const { status, stdout, stderr } = spawnSync(build(name.replaceAll(' ', '-'), [...flags]), {
      encoding: 'utf8',
      env: { ...process.env, LD_PRELOAD: '' },
    });
    expect(stdout + stderr).toBe('0 failures\n');
    expect(status).toBe(0);
  });
}
