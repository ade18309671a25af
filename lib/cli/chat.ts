import { createInterface, type Interface } from 'node:readline';
import { Command } from 'commander';
import type { Generation, LLM } from '../engine/index.ts';
import { EyrieError } from '../errors.ts';
import type { ChatMessage } from '../tokenizer/index.ts';
import {
  addGenerateOptions,
  addLoadOptions,
  type GenerateFlags,
  generateOptions,
  type LoadFlags,
  loadOptions,
} from './options.ts';
import { count, loadProgress } from './progress.ts';
import { chatIds, warmTemplates } from './prompt.ts';
import { report } from './report.ts';
import { streamText } from './stream-text.ts';

interface ChatFlags extends LoadFlags, GenerateFlags {
  system?: string;
  quiet?: true;
}

const HELP = '/reset forgets the conversation, /exit ends it; Ctrl-C stops an answer\n';

export function chatCommand(): Command {
  const command = new Command('chat')
    .description('A conversation, a message a line, from the terminal or from a pipe.')
    .argument('<model>', 'GGUF file or model folder with a chat template')
    .option('--system <text>', 'a system message at the start')
    .option('--quiet', 'no progress, no hints, no statistics');
  addGenerateOptions(command);
  addLoadOptions(command);
  return command.action(chat);
}

async function chat(model: string, flags: ChatFlags): Promise<void> {
  const quiet = Boolean(flags.quiet);
  void warmTemplates();
  const { load } = await import('../engine/index.ts');
  const llm = await load(model, { ...loadOptions(flags), onProgress: loadProgress(quiet) });
  try {
    if (!llm.template) {
      throw new EyrieError(
        'EYRIE_TEMPLATE',
        `${model} has no chat template; continue texts with eyrie run --raw`,
      );
    }
    await new Conversation(llm, flags).talk();
  } finally {
    await llm.dispose();
  }
}

class Conversation {
  readonly #llm: LLM;
  readonly #flags: ChatFlags;
  readonly #lines: Interface;
  /** Whether a person sits in front of it. */
  readonly #live: boolean = process.stdin.isTTY === true && process.stderr.isTTY === true;
  #messages: ChatMessage[] = [];
  #answering: Generation | null = null;

  constructor(llm: LLM, flags: ChatFlags) {
    this.#llm = llm;
    this.#flags = flags;
    // Standard output carries answers alone.
    this.#lines = createInterface({
      input: process.stdin,
      output: process.stderr,
      terminal: this.#live,
      prompt: '> ',
    });
    const interrupt = (): void => {
      if (this.#answering) this.#answering.abort();
      else this.#lines.close();
    };
    // A terminal in raw mode sends the key, everything else the signal.
    this.#lines.on('SIGINT', interrupt);
    process.on('SIGINT', interrupt);
    this.#reset();
  }

  async talk(): Promise<void> {
    if (this.#live && !this.#flags.quiet) process.stderr.write(HELP);
    this.#prompt();
    for await (const line of this.#lines) {
      const text = line.trim();
      if (text === '/exit') break;
      if (text === '/reset') this.#reset();
      else if (text === '/help') process.stderr.write(HELP);
      else if (text !== '') await this.#turn(line);
      this.#prompt();
    }
    this.#lines.close();
  }

  async #turn(content: string): Promise<void> {
    const asked = [...this.#messages, { role: 'user', content }];
    try {
      this.#answering = this.#llm.complete(await chatIds(this.#llm, asked), generateOptions(this.#flags));
      const answer = await streamText(this.#answering);
      this.#messages = [...asked, { role: 'assistant', content: answer }];
      await this.#statistics(this.#answering);
    } catch (error) {
      // A person can go on, for instance with /reset; a script should hear of it.
      if (!this.#live) throw error;
      report(error);
    } finally {
      this.#answering = null;
    }
  }

  async #statistics(generation: Generation): Promise<void> {
    if (this.#flags.quiet) return;
    const { promptIds, ids, timings } = await generation.result();
    const used = promptIds.length + ids.length;
    const speed = `${count(ids.length, 'token')}, ${timings.generatedTokensPerSecond.toFixed(1)} tokens/s`;
    process.stderr.write(
      `[${speed} · ${used} of ${this.#llm.engine.options.contextLength} tokens of context]\n`,
    );
  }

  #reset(): void {
    const { system } = this.#flags;
    this.#messages = system === undefined ? [] : [{ role: 'system', content: system }];
  }

  #prompt(): void {
    if (this.#live) this.#lines.prompt();
  }
}
