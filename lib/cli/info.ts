import { Command, Option } from 'commander';
import { KV_DTYPES } from '../kv/dtype.ts';
import { formatBytes } from '../tensor/memory.ts';
import type { MachineInfo } from './machine-info.ts';
import type { ModelInfo } from './model-info.ts';
import { integer, type LoadFlags, weightsOption } from './options.ts';

type InfoFlags = Pick<LoadFlags, 'context' | 'activations' | 'weights' | 'kvDtype'> & { json?: true };

export function infoCommand(): Command {
  return new Command('info')
    .description('What a model is and needs, read from its headers, and what this machine offers.')
    .argument('[model]', 'GGUF file or model folder (default: the machine only)')
    .option('--json', 'prints one object')
    .option('--context <n>', 'longest text the memory is planned for (default: as in a load)', integer(2))
    .addOption(new Option('--activations <type>', 'as in a load').choices(['auto', 'f32']).default('auto'))
    .addOption(weightsOption('as in a load'))
    .addOption(new Option('--kv-dtype <type>', 'as in a load').choices(KV_DTYPES))
    .action(info);
}

async function info(path: string | undefined, flags: InfoFlags): Promise<void> {
  const { readMachineInfo } = await import('./machine-info.ts');
  const model =
    path === undefined ? null : await (await import('./model-info.ts')).readModelInfo(path, flags);
  if (flags.json) {
    const machine = await readMachineInfo();
    process.stdout.write(`${JSON.stringify({ ...(model && { model }), machine })}\n`);
    return;
  }
  // The model first: it needs no addon, which may be what is missing.
  if (model) process.stdout.write(`${table(modelRows(model))}\n`);
  process.stdout.write(table(machineRows(await readMachineInfo())));
}

type Row = [label: string, value: string];

function table(rows: Row[]): string {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${label.padEnd(width)}  ${value}\n`).join('');
}

function modelRows(m: ModelInfo): Row[] {
  const rows: Row[] = [
    ['model', m.path],
    ['format', `${m.format}, ${m.files} ${m.files === 1 ? 'file' : 'files'}`],
    ['architecture', m.architecture],
  ];
  if (m.unsupported !== null) rows.push(['does not run', m.unsupported]);
  if (m.tensors > 0) rows.push(['parameters', `${shortCount(m.parameters)} in ${m.tensors} tensors`]);
  const { config, memory } = m;
  if (config) {
    rows.push(
      ['layers', `${config.layers}`],
      ['hidden size', `${config.hiddenSize}, feed-forward ${config.intermediateSize}`],
      ['attention', `${config.heads} heads of ${config.headDim}, ${config.kvHeads} for keys and values`],
      ['context', `${config.maxPositions} tokens`],
      ['vocabulary', `${config.vocabSize} tokens${config.tied ? ', output tied to the embedding' : ''}`],
    );
  }
  for (const [i, f] of m.formats.entries()) {
    rows.push([i === 0 ? 'tensors' : '', `${f.dtype}: ${f.tensors}, ${formatBytes(f.bytes)}`]);
  }
  if (memory) {
    const parts = `weights ${formatBytes(memory.weights)}, KV cache ${formatBytes(memory.kv)}, workspace ${formatBytes(memory.workspace)}`;
    rows.push(['memory', `${formatBytes(memory.total)} with ${memory.context} tokens of context (${parts})`]);
  }
  const { tokenizer } = m;
  const bos = tokenizer.present
    ? `yes${tokenizer.addsBos ? ', puts BOS in front' : ''}`
    : `no: ${tokenizer.reason}`;
  rows.push(['tokenizer', bos], ['chat template', tokenizer.chatTemplate ? 'yes' : 'no']);
  return rows;
}

function machineRows(m: MachineInfo): Row[] {
  const lacking =
    m.missingLevels.length > 0 ? `; this processor lacks what ${m.missingLevels.join(', ')} needs` : '';
  return [
    ['processor', m.cpu],
    ['level', `${m.level}: ${m.levelReason} of ${m.levels.join(', ')}${lacking}`],
    ...(m.portableLevel === m.level
      ? []
      : ([['arithmetic', `native; --arithmetic portable takes ${m.portableLevel}`]] satisfies Row[])),
    ['threads', `${m.threads} (${m.cores} ${m.cores === 1 ? 'core' : 'cores'})`],
    ['memory', `${formatBytes(m.availableMemory)} available`],
    ['CUDA', m.cuda.message],
    ['eyrie runs on', `Node ${m.node}, ${m.platform}`],
  ];
}

function shortCount(n: number): string {
  if (n < 1e6) return `${(n / 1e3).toFixed(1)} thousand`;
  return n < 1e9 ? `${(n / 1e6).toFixed(1)} million` : `${(n / 1e9).toFixed(2)} billion`;
}
