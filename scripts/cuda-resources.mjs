// `npm run check:cuda`: what ptxas makes of every kernel in csrc/cuda, for every architecture of a release. Fails on a spill, a stack
// frame, local memory or static shared memory, on more registers than the first fitting entry of csrc/cuda/budgets.json allows, and, where
// cuobjdump is (PATH, beside nvcc, or EYRIE_CUOBJDUMP), on a kernel that lacks the instructions listed there.
//   node scripts/cuda-resources.mjs [--archs 80,90a] [--except WORD] [words in file names]
// --except leaves out files whose name contains the word. Needs nvcc, no GPU.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { fail, nvcc, root, say, which } from './util.mjs';

const ARCHS = ['80', '86', '89', '90a', '100', '120'];
const FLAGS = ['-std=c++20', '-O3', '-I', 'csrc', '-Xptxas', '-v', '-Werror', 'all-warnings'];
const AT_A_TIME = 2;
const folder = join(root, 'build/cuda-resources');
const sources = join(root, 'csrc/cuda');
const budgetsPath = join(sources, 'budgets.json');

/** A source's text and that of every header of ours below it. */
function closure(path, seen = new Map()) {
  if (seen.has(relative(root, path)) || !existsSync(path)) return seen;
  const text = readFileSync(path, 'utf8');
  seen.set(relative(root, path), text);
  for (const [, name] of text.matchAll(/^\s*#\s*include\s*"([^"]+)"/gm)) {
    closure(join(root, 'csrc', name), seen);
    closure(normalize(join(dirname(path), name)), seen);
  }
  return seen;
}

/** Compiles one file for one architecture, or finds that it was: { log, cubin }. */
async function compile(compiler, version, file, arch) {
  const path = join(sources, file);
  const hash = createHash('sha256').update(
    [version, arch, ...FLAGS, ...[...closure(path)].flat()].join('\0'),
  );
  const base = join(folder, `${file}.${arch}.${hash.digest('hex').slice(0, 16)}`);
  const [cubin, log] = [`${base}.cubin`, `${base}.txt`];
  if (!existsSync(log)) {
    const args = [...FLAGS, `-arch=sm_${arch}`, '-cubin', path, '-o', cubin];
    const { status, text } = await new Promise((resolve, reject) => {
      const child = spawn(compiler, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
      let text = '';
      child.stdout.on('data', (data) => (text += data));
      child.stderr.on('data', (data) => (text += data));
      child.on('error', reject);
      child.on('close', (status) => resolve({ status, text }));
    });
    if (status !== 0) throw new Error(`${compiler} ${args.join(' ')}\n${text}`);
    writeFileSync(log, text);
  }
  return { log: readFileSync(log, 'utf8'), cubin };
}

/** The kernels of a log of ptxas -v. */
function parse(log) {
  const kernels = [];
  for (const part of log.split(/Compiling entry function '/).slice(1)) {
    const number = (pattern) => Number(pattern.exec(part)?.[1] ?? 0);
    kernels.push({
      symbol: part.slice(0, part.indexOf("'")),
      registers: number(/Used (\d+) registers/),
      stack: number(/(\d+) bytes stack frame/),
      spills: number(/(\d+) bytes spill stores/) + number(/(\d+) bytes spill loads/),
      local: number(/(\d+) bytes lmem/),
      shared: number(/(\d+) bytes smem/),
    });
  }
  return kernels;
}

/** C++ names of symbols; the symbols themselves without c++filt. */
function demangle(symbols) {
  const { status, stdout } = spawnSync('c++filt', [], { input: symbols.join('\n'), encoding: 'utf8' });
  const names = status === 0 ? stdout.trimEnd().split('\n') : symbols;
  return new Map(symbols.map((symbol, i) => [symbol, names[i]]));
}

/** gemm_kernel<128, 2> of `void eyrie::cuda::(anonymous namespace)::gemm_kernel<128, 2>(int)`. */
const shortName = (name) => {
  const plain = name
    .replace(/\(anonymous namespace\)::/g, '')
    .replace(/eyrie::(cuda::)?/g, '')
    .replace(/^void /, '');
  let depth = 0;
  for (let i = 0; i < plain.length; i++) {
    if (plain[i] === '<') depth++;
    if (plain[i] === '>') depth--;
    if (plain[i] === '(' && depth === 0) return plain.slice(0, i);
  }
  return plain;
};

function cuobjdump(compiler) {
  const beside = join(dirname(compiler), 'cuobjdump');
  return process.env.EYRIE_CUOBJDUMP ?? which('cuobjdump') ?? (existsSync(beside) ? beside : null);
}

/** The machine code of each kernel of a cubin, by symbol. */
function machineCode(tool, cubin) {
  const { status, stdout, stderr } = spawnSync(tool, ['-sass', cubin], {
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
  });
  if (status !== 0) throw new Error(`${tool} -sass ${cubin}: ${stderr}`);
  const parts = stdout.split(/Function : (\S+)/).slice(1);
  return new Map(Array.from({ length: parts.length / 2 }, (_, i) => [parts[2 * i], parts[2 * i + 1]]));
}

try {
  const compiler = nvcc();
  if (!compiler) {
    say('skipped: nvcc is not here; install the CUDA toolkit or set CUDACXX');
    process.exit(0);
  }
  const { values: options, positionals: named } = parseArgs({
    allowPositionals: true,
    options: { archs: { type: 'string', default: ARCHS.join(',') }, except: { type: 'string' } },
  });
  const archs = options.archs.split(',');
  const chosen = (file) =>
    (!named.length || named.some((word) => file.includes(word))) &&
    !(options.except && file.includes(options.except));
  const budgets = JSON.parse(readFileSync(budgetsPath, 'utf8'));
  const version = spawnSync(compiler, ['--version'], { encoding: 'utf8' }).stdout;
  mkdirSync(folder, { recursive: true });
  const jobs = readdirSync(sources)
    .filter((f) => f.endsWith('.cu') && chosen(f))
    .flatMap((f) =>
      archs.filter((arch) => !f.endsWith('_sm90a.cu') || arch === '90a').map((arch) => [f, arch]),
    );
  const rows = [];
  const queue = [...jobs];
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) {
      const [file, arch] = job;
      const { log, cubin } = await compile(compiler, version, file, arch);
      for (const kernel of parse(log)) rows.push({ file, arch, cubin, ...kernel });
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));

  const names = demangle([...new Set(rows.map((row) => row.symbol))]);
  const tool = cuobjdump(compiler);
  const code = new Map();
  const problems = [];
  const table = new Map();
  for (const row of rows) {
    const name = names.get(row.symbol);
    const short = shortName(name);
    const where = `${row.file} sm_${row.arch} ${short}`;
    if (row.spills || row.stack || row.local)
      problems.push(
        `${where}: ${row.spills} bytes of spills, ${row.stack} of stack, ${row.local} of local memory`,
      );
    if (row.shared) problems.push(`${where}: ${row.shared} bytes of static shared memory`);
    const budget = budgets.registers.find(
      ({ kernel, archs }) => new RegExp(kernel).test(short) && (archs?.includes(row.arch) ?? true),
    );
    if (row.registers > budget.most)
      problems.push(
        `${where}: ${row.registers} registers, the budget of /${budget.kernel}/ is ${budget.most}`,
      );
    const line = table.get(`${row.file} ${short}`) ?? { file: row.file, short, registers: {} };
    line.registers[row.arch] = row.registers;
    table.set(`${row.file} ${short}`, line);
    for (const { kernel, any } of budgets.instructions) {
      if (!tool || !new RegExp(kernel).test(short)) continue;
      if (!code.has(row.cubin)) code.set(row.cubin, machineCode(tool, row.cubin));
      const text = code.get(row.cubin).get(row.symbol) ?? '';
      if (!any.some((word) => new RegExp(word).test(text)))
        problems.push(`${where}: nothing like ${any.join(' or ')} in its code`);
    }
  }
  const width = Math.min(90, Math.max(20, ...[...table.values()].map((line) => line.short.length)));
  console.log(`${'registers'.padEnd(width)} ${archs.map((arch) => arch.padStart(4)).join('')}`);
  for (const line of [...table.values()].sort((a, b) => (a.file + a.short < b.file + b.short ? -1 : 1))) {
    const cells = archs.map((arch) => String(line.registers[arch] ?? '').padStart(4)).join('');
    console.log(`${line.short.slice(0, width).padEnd(width)} ${cells}`);
  }
  for (const problem of problems) console.error(problem);
  if (problems.length) fail(`${problems.length} problems`);
  const checked = tool ? 'instructions too' : 'without cuobjdump, so not their instructions';
  say(`${table.size} kernels for ${archs.join(', ')} fit their budgets; ${checked}`);
} catch (error) {
  fail(error.message);
}
