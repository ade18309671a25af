// `npm run test:mutations:kernels [-- --limit 12] [words in file names]`: takes barriers, waits and commits out of the real kernels
// (csrc/cuda), one at a time, and turns matrix loads and shuffles round, in a copy of the tree; then builds the emulated addon and
// runs the ops' cases under every schedule (test/cuda/schedules.test.ts). Lists what went unnoticed: a case is missing for it, or
// the line was not needed; so it judges nothing. Minutes a mutant: not part of CI.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fail, root, run, say, which } from './util.mjs';

const RULES = [
  ['no barrier', /__syncthreads\(\);/g, () => ';'],
  ['no __syncwarp', /__syncwarp\(\);/g, () => ';'],
  ['a weaker wait', /copy_async_wait<([^>]+)>/g, (_, n) => `copy_async_wait<(${n}) + 1>`],
  ['no commit', /copy_async_commit\(\);/g, () => ';'],
  ['a matrix load turned round', /load_matrix4<(true|false)>/g, (_, t) => `load_matrix4<!${t}>`],
  [
    'a shuffle of the neighbour',
    /(__shfl_xor_sync\([^,]+,[^,]+,\s*)(\w+)\)/g,
    (_, head, n) => `${head}${n} ^ 1)`,
  ],
];
/** The ops whose cases reach a file. */
const OPS = [
  [/attention/, 'paged_attention'],
  [/decode|exact|gemm|linear|product|fragments/, 'linear|fused'],
  [/sample/, 'sample'],
  [/kv|rope|norm|pack|embed|tree/, 'kv_|rope|norm|pack_weight|embed|tree_|fused_qkv'],
];

const folder = join(root, 'build/kernel-mutations');
const tree = join(folder, 'tree');

/** Builds the copy and runs the cases of an op: null when all is well, else the first complaint. */
function observe(ops) {
  const build = spawnSync(
    'cmake',
    ['--build', join(folder, 'cmake'), '--parallel', String(availableParallelism())],
    {
      encoding: 'utf8',
    },
  );
  if (build.status !== 0) return `it does not compile: ${build.stdout.slice(-300)}`;
  const { status, stdout } = spawnSync(
    process.execPath,
    [
      join(root, 'node_modules/vitest/vitest.mjs'),
      ...['run', '--bail=1', 'test/cuda/schedules.test.ts', '-t', `(${ops}).*the same bits`],
    ],
    {
      cwd: root,
      encoding: 'utf8',
      timeout: 600_000,
      env: {
        ...process.env,
        NO_COLOR: '1',
        EYRIE_ADDON: join(folder, 'out/eyrie.node'),
        EYRIE_TEST_DEVICES: 'cuda',
        EYRIE_TEST_DIGESTS: join(folder, 'digests.json'),
      },
    },
  );
  if (status === 0) return null;
  return /^(?:AssertionError|EyrieError|Error): (.*)$/m.exec(stdout)?.[1]?.slice(0, 160) ?? 'it crashes';
}

try {
  const words = process.argv.slice(2);
  const at = words.indexOf('--limit');
  const limit = at < 0 ? Number.POSITIVE_INFINITY : Number(words[at + 1]);
  const named = words.filter((word, i) => !word.startsWith('--') && (at < 0 || i !== at + 1));
  mkdirSync(folder, { recursive: true });
  cpSync(join(root, 'csrc'), join(tree, 'csrc'), { recursive: true, preserveTimestamps: true });
  for (const name of ['CMakeLists.txt', 'package.json']) cpSync(join(root, name), join(tree, name));
  if (!existsSync(join(tree, 'node_modules')))
    symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
  run('cmake', [
    ...['-S', tree, '-B', join(folder, 'cmake'), ...(which('ninja') ? ['-G', 'Ninja'] : [])],
    ...['-DEYRIE_EMULATE_CUDA=ON', `-DEYRIE_OUTPUT_DIR=${join(folder, 'out')}`],
  ]);
  rmSync(join(folder, 'digests.json'), { force: true });
  const kernels = join(tree, 'csrc/cuda');
  const mutants = [];
  for (const file of readdirSync(kernels)) {
    if (!/\.cuh?$/.test(file) || /sm90a|^gpu\.cuh|^backend/.test(file)) continue;
    if (named.length && !named.some((word) => file.includes(word))) continue;
    const text = readFileSync(join(kernels, file), 'utf8');
    for (const [bug, pattern, change] of RULES)
      for (const match of text.matchAll(pattern)) {
        const after = text.slice(match.index + match[0].length);
        const line = text.slice(0, match.index).split('\n').length;
        mutants.push({
          file,
          bug,
          line,
          text,
          mutant: text.slice(0, match.index) + change(...match) + after,
        });
      }
  }
  const step = Math.max(1, mutants.length / limit);
  const chosen = mutants.filter((_, i) => Math.floor(i / step) !== Math.floor((i - 1) / step));
  const opsOf = (file) => OPS.find(([pattern]) => pattern.test(file))?.[1] ?? '.';
  for (const ops of new Set(chosen.map(({ file }) => opsOf(file)))) {
    const complaint = observe(ops);
    if (complaint) fail(`the unchanged kernels are not silent (${ops}): ${complaint}`);
  }
  let missed = 0;
  for (const { file, bug, line, text, mutant } of chosen) {
    const path = join(kernels, file);
    writeFileSync(path, mutant);
    const complaint = observe(opsOf(file));
    writeFileSync(path, text);
    if (!complaint) missed++;
    say(
      `${complaint ? 'noticed  ' : 'UNNOTICED'} ${file}:${line} ${bug}${complaint ? `: ${complaint}` : ''}`,
    );
  }
  say(`${chosen.length - missed} of ${chosen.length} mutants (of ${mutants.length} in all) noticed`);
} catch (error) {
  fail(error.message);
}
