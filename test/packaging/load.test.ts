import { afterEach, describe, expect, it, vi } from 'vitest';
import { buildAddon } from '../../lib/cli/build.ts';

afterEach(() => {
  vi.unstubAllEnvs();
  vi.resetModules();
});

/** A fresh loader: the real one keeps the addon that it found first. */
const loader = () => import('../../lib/native/load.ts');

describe('the loader', () => {
  it('loads once', async () => {
    const { native } = await loader();
    expect(native()).toBe(native());
  });

  it('names EYRIE_ADDON when that file does not load', async () => {
    vi.stubEnv('EYRIE_ADDON', '/nowhere/eyrie.node');
    const { native } = await loader();
    expect(() => native()).toThrow(
      expect.objectContaining({
        code: 'EYRIE_NATIVE_LOAD',
        message: expect.stringMatching(/EYRIE_ADDON names \/nowhere\/eyrie\.node.*\nUnset it/),
      }),
    );
  });

  it('says what the machine is and names one command when nothing fits', async () => {
    vi.stubEnv('EYRIE_ADDON', '');
    vi.doMock('node-gyp-build', () => ({
      default: () => {
        throw new Error('No native build was found for platform=linux');
      },
    }));
    const { native } = await loader();
    expect(() => native()).toThrow(
      expect.objectContaining({
        code: 'EYRIE_NATIVE_LOAD',
        message: expect.stringMatching(/Node v\d+[\s\S]*: npm run build:native$/),
      }),
    );
    vi.doUnmock('node-gyp-build');
  });
});

describe('eyrie build', () => {
  it('names the package that is missing', async () => {
    vi.stubEnv('PATH', '');
    await expect(buildAddon({ log: () => {} })).rejects.toEqual(
      expect.objectContaining({
        code: 'EYRIE_NATIVE_LOAD',
        message: expect.stringMatching(/CMake was not found.*`cmake`/),
      }),
    );
  });
});
