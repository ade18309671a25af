#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { report } from './report.ts';

/** Only the command that is asked for is loaded: the start of `run` is on the way to the first token. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  run: async () => (await import('./run.ts')).runCommand(),
  chat: async () => (await import('./chat.ts')).chatCommand(),
  info: async () => (await import('./info.ts')).infoCommand(),
  perplexity: async () => (await import('./perplexity.ts')).perplexityCommand(),
  tokenize: async () => (await import('./tokenize.ts')).tokenizeCommand(),
  build: async () => (await import('./build-command.ts')).buildCommand(),
};

// A reader that has seen enough (`| head`) is no failure, and words for nobody are no reason to stop.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});
process.stderr.on('error', () => {});

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('eyrie')
  .description('Runs language models. MODEL is a GGUF file, or a folder with config.json and safetensors.')
  .version(version);

const asked = process.argv[2] ?? '';
const wanted = Object.hasOwn(COMMANDS, asked) ? [COMMANDS[asked]!] : Object.values(COMMANDS);
for (const make of wanted) program.addCommand(await make());

// Commander hands these to subcommands only when it makes them itself.
for (const command of [program, ...program.commands]) {
  command.exitOverride().configureOutput({
    outputError: (text, write) => write(text.replace(/^error: /, 'eyrie: ')),
  });
}

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
