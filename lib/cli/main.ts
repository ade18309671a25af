#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { buildCommand } from './build-command.ts';
import { chatCommand } from './chat.ts';
import { infoCommand } from './info.ts';
import { perplexityCommand } from './perplexity.ts';
import { report } from './report.ts';
import { runCommand } from './run.ts';
import { tokenizeCommand } from './tokenize.ts';

// A reader that has seen enough (`| head`) is no failure.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(0);
  });
}

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('eyrie')
  .description('Runs language models. MODEL is a GGUF file, or a folder with config.json and safetensors.')
  .version(version);

for (const command of [
  runCommand(),
  chatCommand(),
  infoCommand(),
  perplexityCommand(),
  tokenizeCommand(),
  buildCommand(),
]) {
  program.addCommand(command);
}

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
