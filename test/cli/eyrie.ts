import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '../..');
const main = join(root, 'dist/cli/main.js');

/** The model of the package. */
export const TINY: string = join(root, 'models/tiny');

function newestSource(): number {
  const files = readdirSync(join(root, 'lib'), { recursive: true, withFileTypes: true });
  const times = files
    .filter((f) => f.name.endsWith('.ts'))
    .map((f) => statSync(join(f.parentPath, f.name)).mtimeMs);
  return Math.max(...times);
}

/** Builds dist/ when a source is newer. Test files run side by side; the folder is a lock. */
export async function buildCli(): Promise<void> {
  const lock = join(root, 'dist/.building');
  mkdirSync(join(root, 'dist'), { recursive: true });
  for (let waited = 0; ; waited += 200) {
    try {
      mkdirSync(lock);
      break;
    } catch (error) {
      if (waited > 60_000) throw new Error(`${lock} does not go away; remove it`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  try {
    if (existsSync(main) && statSync(main).mtimeMs >= newestSource()) return;
    // Types are the business of `npm run check`.
    const { stdout, stderr } = spawnSync(process.execPath, ['scripts/dist.mjs', '--no-types'], {
      cwd: root,
      encoding: 'utf8',
    });
    if (!existsSync(main)) throw new Error(`the build failed:\n${stdout}${stderr}`);
    const now = new Date();
    utimesSync(main, now, now);
  } finally {
    rmdirSync(lock);
  }
}

export interface Ending {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface Running {
  ended: Promise<Ending>;
  /** Resolves when standard output has begun. */
  begun: Promise<void>;
  interrupt(): void;
  closeStdout(): void;
}

interface Options {
  /** Standard input; null leaves it open and silent, the default closes it. */
  input?: string | Uint8Array | null;
  env?: Record<string, string>;
}

export function start(args: readonly string[], { input = '', env = {} }: Options = {}): Running {
  const child = spawn(process.execPath, [main, ...args], {
    cwd: root,
    // One thread: two would wait for each other wherever the tests share the cores with something else.
    env: { ...process.env, EYRIE_THREADS: '1', ...env },
    timeout: 50_000,
  });
  let stdout = '';
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  const begun = new Promise<void>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      resolve();
    });
  });
  child.stdin.on('error', () => {}); // it may end before it has read everything
  if (input !== null) child.stdin.end(input);
  const ended = new Promise<Ending>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      child.stdin.destroy();
      resolve({ code, stdout, stderr });
    });
  });
  return { ended, begun, interrupt: () => child.kill('SIGINT'), closeStdout: () => child.stdout.destroy() };
}

export function eyrie(args: readonly string[], options?: Options): Promise<Ending> {
  return start(args, options).ended;
}

/** The object that a command with --json printed, which must be all that it printed. */
export async function json<T = Record<string, unknown>>(
  args: readonly string[],
  options?: Options,
): Promise<T> {
  const { code, stdout, stderr } = await eyrie([...args, '--json'], options);
  if (code !== 0 || stderr !== '') throw new Error(`exit code ${code}: ${stderr}`);
  if (!/^\{.*\}\n$/.test(stdout)) throw new Error(`not one line with an object: ${stdout}`);
  return JSON.parse(stdout) as T;
}
