// `npm run test:replay`: what the CPU's op tests did (scripts/record.mjs), replayed by gpu-tests on the emulated CUDA kernels: the replay's own
// tolerances are tested where there is no GPU.
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { missing } from './native.mjs';
import { fail, root, run, say } from './util.mjs';

const folder = join(root, 'build/emulated-cuda');
const records = 'build/replay'; // not those of a GPU run, which are more
const started = performance.now();
const lacks = missing();
if (lacks) {
  say(`skipped: ${lacks}`);
  process.exit(0);
}
try {
  run(process.execPath, [join(root, 'scripts/emulated.mjs'), '--build']);
  run('cmake', ['-S', root, '-B', folder, '-DEYRIE_GPU_TESTS=ON']);
  run('cmake', ['--build', folder, '--parallel', String(availableParallelism())]);
  run(process.execPath, [join(root, 'scripts/record.mjs'), '--into', records, '--mb', '8', 'test/ops']);
  run(join(folder, 'out/gpu-tests'), [join(root, records, 'ops.rec')]);
  say(`replayed after ${((performance.now() - started) / 1000).toFixed(0)} s`);
} catch (error) {
  fail(error.message);
}
