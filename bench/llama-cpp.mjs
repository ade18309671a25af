// llama.cpp's own programs, built from the sources that node-llama-cpp brings along: the peer without any JavaScript. Needs git, CMake and a C++
// compiler; takes minutes the first time, and lies in bench/peers, which git ignores. EYRIE_LLAMA_CPP names a folder with the programs instead.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { installPeer } from './peer.mjs';
import { root } from './report.mjs';

const PROGRAMS = ['llama-bench', 'llama-batched-bench', 'llama-quantize'];
const complete = (folder) => PROGRAMS.every((name) => existsSync(join(folder, name)));

function run(command, args, cwd) {
  const { status, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status === 0) return null;
  return `${command} ${args[0]} failed: ${(error?.message ?? stderr ?? '').trim().split('\n').at(-1)}`;
}

/** Builds what is not there yet. @returns {{ folder: string, commit: string } | { error: string }} */
export function buildLlamaCpp() {
  const given = process.env.EYRIE_LLAMA_CPP;
  if (given)
    return complete(given)
      ? { folder: given, commit: 'given' }
      : { error: `${given} lacks ${PROGRAMS.join(' or ')}` };
  const peer = installPeer();
  if ('error' in peer) return peer;
  const source = join(root, 'bench/peers/llama.cpp');
  const folder = join(source, 'build/bin');
  if (!complete(folder)) {
    const bundle = join(dirname(dirname(peer.entry)), 'llama/gitRelease.bundle');
    if (!existsSync(bundle)) return { error: `node-llama-cpp ${peer.version} has no sources of llama.cpp` };
    console.log('building llama.cpp in bench/peers (minutes) …');
    const off = ['CURL', 'OPENSSL', 'BUILD_TESTS', 'BUILD_EXAMPLES', 'BUILD_SERVER'].map(
      (o) => `-DLLAMA_${o}=OFF`,
    );
    const error =
      (!existsSync(source) && run('git', ['clone', '--quiet', bundle, source])) ||
      run('cmake', [
        ...['-S', source, '-B', join(source, 'build'), '-DCMAKE_BUILD_TYPE=Release', '-DGGML_NATIVE=ON'],
        ...['-DBUILD_SHARED_LIBS=OFF', ...off],
      ]) ||
      run('cmake', [
        ...['--build', join(source, 'build'), '--parallel', String(availableParallelism())],
        ...['--target', ...PROGRAMS],
      ]);
    if (error) return { error };
  }
  const head = spawnSync('git', ['describe', '--always', '--tags'], { cwd: source, encoding: 'utf8' });
  return { folder, commit: head.stdout?.trim() ?? '' };
}

/** Tokens per second of llama-bench, once: a prompt alone, then decoding alone (no sampling, random tokens). */
export function llamaBench(folder, { model, threads, prompt, tokens }) {
  const args = [
    '-m',
    model,
    '-t',
    String(threads),
    '-p',
    String(prompt),
    '-n',
    String(tokens),
    '-r',
    '1',
    '-o',
    'json',
  ];
  const { status, stdout, stderr } = spawnSync(join(folder, 'llama-bench'), args, {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (status !== 0) throw new Error(`llama-bench: ${stderr.trim().slice(-500)}`);
  const results = JSON.parse(stdout);
  const of = (key) => results.find((r) => r[key] > 0)?.avg_ts;
  return { prefill: of('n_prompt'), decode: results.find((r) => r.n_gen > 0 && !r.n_prompt)?.avg_ts };
}

/** Writes `to`, `from` in the format. @returns {string | null} what went wrong */
export function quantise(folder, from, to, format) {
  return run(join(folder, 'llama-quantize'), [from, to, format]);
}

/** Tokens per second of llama-batched-bench: all sequences decoded together, their prompts not counted. */
export function llamaBatch(folder, { model, threads, prompt, tokens, sequences }) {
  const context = String(sequences * (prompt + tokens) + 64);
  const numbers = ['-t', threads, '-c', context, '-npp', prompt, '-ntg', tokens, '-npl', sequences].map(
    String,
  );
  const args = ['-m', model, ...numbers, '--output-format', 'jsonl'];
  // Now and then it ends before its line is out (seen in a run of a hundredth of a second).
  for (let attempt = 0; attempt < 3; attempt++) {
    const { status, stdout, stderr } = spawnSync(join(folder, 'llama-batched-bench'), args, {
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    if (status !== 0) throw new Error(`llama-batched-bench: ${stderr.trim().slice(-500)}`);
    const line = stdout.split('\n').find((l) => l.startsWith('{'));
    if (line) return JSON.parse(line).speed_tg;
  }
  throw new Error('llama-batched-bench printed no result in three runs');
}
