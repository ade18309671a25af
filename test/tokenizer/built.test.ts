import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { afterAll, beforeAll, expect, test } from 'vitest';

/**
 * The template's thread must also start from built JavaScript, outside of the test runner, and must neither keep a
 * process alive nor let it end too early.
 */
const root = resolve(import.meta.dirname, '../..');
let built: string;

beforeAll(() => {
  // Inside the repository, so that packages are found.
  const cache = join(root, 'node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  built = mkdtempSync(join(cache, 'eyrie-built-'));
  const tokenizer = readdirSync(join(root, 'lib/tokenizer')).map((name) => `tokenizer/${name}`);
  mkdirSync(join(built, 'tokenizer'));
  writeFileSync(join(built, 'package.json'), '{"type":"module"}');
  for (const name of ['errors.ts', ...tokenizer]) {
    const { outputText } = ts.transpileModule(readFileSync(join(root, 'lib', name), 'utf8'), {
      fileName: name,
      compilerOptions: {
        target: ts.ScriptTarget.ES2022,
        module: ts.ModuleKind.ES2022,
        rewriteRelativeImportExtensions: true,
        verbatimModuleSyntax: true,
      },
    });
    writeFileSync(join(built, name.replace(/\.ts$/, '.js')), outputText);
  }
});
afterAll(() => rmSync(built, { recursive: true }));

/** Runs a program that has `ChatTemplate` and `hi`; the result is its output and exit code. */
async function run(body: string): Promise<{ output: string; code: number | null }> {
  const url = pathToFileURL(join(built, 'tokenizer/index.js')).href;
  const program = `import { ChatTemplate } from '${url}'; const hi = [{ role: 'user', content: 'Hi' }]; ${body}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), 30_000);
  const code = await new Promise<number | null>((done) => child.on('close', done));
  clearTimeout(timer);
  return { output, code };
}

const template = `new ChatTemplate("{{ messages[0].content }}!")`;

test('renders, and the process ends by itself', async () => {
  expect(await run(`console.log(await ${template}.render(hi), await ${template}.render(hi));`)).toEqual({
    output: 'Hi! Hi!\n',
    code: 0,
  });
});

test('a thread that was only warmed up does not hold the process', async () => {
  expect(await run(`${template}.warm(); console.log('done');`)).toEqual({ output: 'done\n', code: 0 });
});

test('the process waits for a render that nothing else waits for', async () => {
  expect(await run(`${template}.render(hi).then(console.log);`)).toEqual({ output: 'Hi!\n', code: 0 });
});

test('a template that does not end costs no more than its deadline', async () => {
  const endless = '{% for i in range(10**6) %}{% for j in range(10**6) %}{% endfor %}{% endfor %}';
  const body = `await new ChatTemplate("${endless}").render(hi, { timeoutMs: 100 }).catch((e) => console.log(e.code));`;
  expect(await run(body)).toEqual({ output: 'EYRIE_TEMPLATE\n', code: 0 });
});
