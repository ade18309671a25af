// Files of one model in several formats, made once into build/bench.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { basename, join } from 'node:path';
import { quantise } from './llama-cpp.mjs';
import { root, sharedPath } from './report.mjs';
import { SHAPES, writeSynthetic } from './synthetic.mjs';

const folder = join(root, 'build/bench');

/** Makes a file under another name first, so that one half written is never taken for whole. */
async function make(path, write) {
  if (existsSync(path)) return;
  console.log(`writing ${basename(path)} …`);
  const error = await write(`${path}.part`);
  if (error) throw new Error(error);
  renameSync(`${path}.part`, path);
}

/** Values of a file in f32. */
function dequantise(from, to) {
  const args = [join(root, 'bench/dequantise.mjs'), from, to];
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  return status === 0 ? null : stderr;
}

/**
 * @param {string} programs folder of llama.cpp's programs
 * @param {{ model?: string, shape?: string }} source a GGUF, or a shape of bench/synthetic.mjs
 * @returns {Promise<{ name: string, path: (format: string) => string }>}
 */
export async function formatFiles(programs, { model: file, shape }, formats) {
  mkdirSync(folder, { recursive: true });
  const model = file ?? sharedPath('models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf');
  if (shape && !SHAPES[shape]) throw new Error(`no shape ${shape}: one of ${Object.keys(SHAPES).join(', ')}`);
  if (!shape && !(model && existsSync(model)))
    throw new Error(
      `${model ?? 'the model SmolLM2-135M-Instruct.Q4_1.gguf'} is not here: give --model FILE.gguf`,
    );
  const name = shape ? `${SHAPES[shape].name} shape` : basename(model, '.gguf');
  const path = (format) => join(folder, `${shape ?? name}.${format}.gguf`);
  // A shape is written in bf16: in f32 8 billion weights would not fit.
  const first = shape ? 'BF16' : 'F32';
  await make(path(first), (to) =>
    shape ? writeSynthetic(shape, to).then(() => null) : dequantise(model, to),
  );
  for (const format of formats) await make(path(format), (to) => quantise(programs, path(first), to, format));
  return { name, path };
}
