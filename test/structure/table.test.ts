import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { native } from '../../lib/native/load.ts';
import { OPS } from '../../lib/native/ops.gen.ts';
import { sources } from './layers.ts';

const root = join(import.meta.dirname, '../..');
const camel = (name: string): string => name.replace(/_([a-z0-9])/g, (_, c: string) => c.toUpperCase());

describe('the op table', () => {
  it('has written its generated files', () => {
    const { status, stderr } = spawnSync(process.execPath, ['csrc/gen.mjs', '--check'], {
      cwd: root,
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });

  it('is the one the loaded addon was built from', () => {
    expect(native().schema()).toEqual(OPS);
  });

  it('has one function per op in the addon, and no other', () => {
    expect(Object.keys(native().ops).sort()).toEqual(OPS.map((op) => op.name).sort());
  });

  const tests = existsSync(join(root, 'test/ops')) ? sources('test/ops', /\.test\.ts$/) : [];
  it.each(OPS.map((op) => op.name))('%s has a test under test/ops', (name) => {
    const mentioned = new RegExp(`\\b(${name}|${camel(name)})\\b`);
    expect(tests.filter((file) => mentioned.test(file.text)).map((file) => file.path)).not.toEqual([]);
  });

  const wrappers = sources('lib/ops', /\.ts$/);
  it.each(OPS.map((op) => op.name))('%s has a typed wrapper in lib/ops', (name) => {
    expect(wrappers.some((file) => file.text.includes(`export function ${camel(name)}(`))).toBe(true);
  });
});
