import { Command } from 'commander';
import type { Generation, GenerationResult, LLM } from '../engine/index.ts';
import { peakMemory } from '../tensor/memory.ts';
import {
  addGenerateOptions,
  addLoadOptions,
  type GenerateFlags,
  generateOptions,
  type LoadFlags,
  loadOptions,
} from './options.ts';
import { loadProgress, summary } from './progress.ts';
import { chatIds, conversation, warmTemplates } from './prompt.ts';
import { readRequest } from './request.ts';
import { streamText } from './stream-text.ts';

interface RunFlags extends LoadFlags, GenerateFlags {
  system?: string;
  raw?: true;
  json?: true;
  quiet?: true;
}

const INTERRUPTED = 130;

export function runCommand(): Command {
  const command = new Command('run')
    .description('Continues or answers a prompt, streaming the text.')
    .argument('[model]', 'GGUF file or model folder (default: the tiny model of the package)')
    .argument('[prompt...]', "text; '-', or none when something is piped in, reads standard input")
    .option('--raw', "continues the text as it is, without the model's chat template")
    .option('--system <text>', 'a system message ahead of the prompt')
    .option('--json', 'prints one object and nothing else')
    .option('--quiet', 'no progress and no summary');
  addGenerateOptions(command);
  addLoadOptions(command);
  return command.action((model: string | undefined, prompt: string[], flags: RunFlags) =>
    run(model === undefined ? [] : [model, ...prompt], flags),
  );
}

async function run(words: string[], flags: RunFlags): Promise<void> {
  const quiet = Boolean(flags.quiet || flags.json);
  let generation: Generation | null = null;
  let interrupted = false;
  process.on('SIGINT', () => {
    if (!generation || interrupted) process.exit(INTERRUPTED);
    interrupted = true;
    generation.abort();
  });
  const request = await readRequest(words);
  if (request.note && !quiet) process.stderr.write(`${request.note}\n`);
  if (!flags.raw) void warmTemplates();
  const { load } = await import('../engine/index.ts');
  const llm = await load(request.model, { ...loadOptions(flags), onProgress: loadProgress(quiet) });
  try {
    const options = generateOptions(flags);
    generation = llm.complete(await promptIds(llm, request.prompt, flags), options);
    if (!flags.json) await streamText(generation);
    const result = await generation.result();
    if (flags.json) process.stdout.write(`${JSON.stringify(toJson(result, llm, options.seed))}\n`);
    else if (!quiet) process.stderr.write(`${summary(result, llm.memory)}\n`);
  } finally {
    await llm.dispose();
  }
  if (interrupted) process.exitCode = INTERRUPTED;
}

function promptIds(llm: LLM, prompt: string, flags: RunFlags): Promise<number[]> {
  if (flags.raw || !llm.template) return llm.tokenizer.encode(prompt);
  return chatIds(llm, conversation(prompt, flags.system));
}

function toJson(result: GenerationResult, llm: LLM, seed: number): object {
  const { promptIds, ids, text, finishReason, timings } = result;
  return { promptIds, ids, text, finishReason, seed, timings, memory: { ...llm.memory, peak: peakMemory() } };
}
