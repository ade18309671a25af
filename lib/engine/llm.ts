import { EyrieError } from '../errors.ts';
import type { KvDType } from '../kv/cache.ts';
import {
  type Activations,
  checkQuantization,
  type LlamaModel,
  loadWeights,
  type ModelConfig,
  type ModelFiles,
  onlyOnCpu,
  openModel,
  type Quantization,
  weightBytes,
} from '../models/index.ts';
import type { SamplingParams } from '../sampling/index.ts';
import { boundAllocator, externalMemory, trimMemory } from '../tensor/memory.ts';
import { Stream } from '../tensor/stream.ts';
import { type ChatMessage, ChatTemplate, Tokenizer } from '../tokenizer/index.ts';
import type { Controller } from './controller.ts';
import { type Arithmetic, chooseDevice, chooseLevel } from './device.ts';
import { Engine } from './engine.ts';
import { Evaluator } from './evaluate.ts';
import { ForkingController } from './forking-controller.ts';
import { Generation, invalidPrompt } from './generation.ts';
import { readDefaults } from './generation-defaults.ts';
import { engineOptions, type MemoryPlan, planMemory } from './memory-plan.ts';
import type { Sequence } from './sequence.ts';
import { TextController } from './text-controller.ts';
import { tokenizerSource } from './tokenizer-source.ts';

export interface LoadOptions {
  /**
   * `'cpu'`, `'cuda:N'`, or `'auto'`: the first GPU where one is there and the model fits its free memory, else the CPU.
   * @default 'auto' (EYRIE_DEVICE overrides)
   */
  device?: string;
  /** Worker threads. @default the cores that are really there */
  threads?: number;
  /** CPU level. @default the best one */
  level?: string;
  /**
   * Products of bf16 activations on the CPU: `'native'` is the processor's fastest order of sums; with `'portable'` the text of a request is the same, bit
   * for bit, on every processor with AVX2 (levels avx2 and avx512). They differ where the level is avx512_bf16 (AMD Zen 4 and newer), in speed above all for
   * prompts and batches. @default 'native'
   */
  arithmetic?: Arithmetic;
  /** `'auto'` rounds the inputs of quantised and bf16 matrices to bf16; `'f32'` rounds nothing and keeps an f32 cache. @default 'auto' */
  activations?: Activations;
  /**
   * Quantises the model's matrices of f32, f16 or bf16 while they are loaded: `'int8'` and `'fp8'` (e4m3) with a scale for each output,
   * `'int4'` and `'int4-g128'` with one for each 32 or 128 inputs, embedding and head then int8. @default what the file has
   */
  weights?: Quantization;
  /** Longest sequence in tokens. @default the model's, at most 4096 */
  contextLength?: number;
  /** Tokens in the KV cache over all sequences. @default contextLength */
  kvTokens?: number;
  /**
   * What the KV cache keeps: `'f8_e4m3'` and `'i8'` halve it; i8 has a scale for each token and head, f8_e4m3 none.
   * @default 'f16', or 'f32' with activations 'f32'
   */
  kvDtype?: KvDType;
  /** Sequences computed together. @default 16 */
  maxSequences?: number;
  /** Tokens computed in one step. @default 256 on the CPU, 512 on a GPU */
  maxBatchTokens?: number;
  /**
   * Enqueues the next decoding step before the token of this one is known to JavaScript. The text is the same.
   * @default true
   */
  runAhead?: boolean;
  /** Called while loading: stage, bytes done and in total, and what will be allocated. */
  onProgress?: (progress: {
    stage: 'weights' | 'ready';
    done: number;
    total: number;
    memory: MemoryPlan;
  }) => void;
}

export interface GenerateOptions extends SamplingParams {
  /** @default what fits the context */
  maxTokens?: number;
  /** Texts that end the generation; they are not part of it. */
  stop?: string | readonly string[];
  /** Token ids that end the generation, beside the model's own. */
  stopIds?: readonly number[];
  /** Goes on after the model's end-of-text token. @default false */
  ignoreEos?: boolean;
  /** Choices; they share the pages of the prompt. @default 1 */
  n?: number;
  signal?: AbortSignal;
}

export interface ChatOptions extends GenerateOptions {
  /** Variables of the model's template, such as `enable_thinking`. */
  templateVariables?: Record<string, unknown>;
  tools?: unknown[];
}

/**
 * Loads a model from a GGUF file or a folder with config.json and safetensors.
 * @throws EyrieError EYRIE_FILE, EYRIE_GGUF, EYRIE_SAFETENSORS, EYRIE_CONFIG, EYRIE_ARCHITECTURE, EYRIE_TOKENIZER, EYRIE_OUT_OF_MEMORY, …
 */
export async function load(path: string, options: LoadOptions = {}): Promise<LLM> {
  boundAllocator();
  const files = await openModel(path);
  const { config } = files;
  checkQuantization(options.weights);
  const weights = weightBytes(files.weights, options.weights);
  const { device, memory } = chooseDevice(
    path,
    options.device,
    (d) => planMemory(config, weights, engineOptions(config, options, d), d),
    onlyOnCpu(files.weights),
  );
  const engine = engineOptions(config, options, device);
  const { contextLength } = engine;
  const source = tokenizerSource(files.weights);
  source.catch(() => {}); // awaited below; a failing load must not leave it unhandled
  const level = chooseLevel(device, options.level, options.arithmetic);
  const stream = new Stream({ device, ...pick(options, 'threads'), level });
  let model: LlamaModel | undefined;
  try {
    const tokenizing = source.then(async (s) => {
      const tokenizer = await Tokenizer.create(s);
      trimMemory(); // parsing a vocabulary leaves more freed memory behind than the vocabulary takes
      return { source: s, tokenizer };
    });
    tokenizing.catch(() => {});
    model = await loadWeights(files, stream, {
      activations: options.activations ?? 'auto',
      positions: contextLength,
      weights: options.weights,
      onProgress: (done, total) => options.onProgress?.({ stage: 'weights', done, total, memory }),
    });
    const { source: tokenizerFiles, tokenizer } = await tokenizing;
    tokenizer.checkVocabulary(config.vocabSize);
    const template =
      tokenizerFiles.chatTemplate === null
        ? null
        : new ChatTemplate(tokenizerFiles.chatTemplate, tokenizerFiles.templateVars);
    const llm = new LLM({
      files,
      model,
      tokenizer,
      template,
      engine: new Engine(model, engine),
      memory,
      defaults: await readDefaults(files),
    });
    files.weights.metadata?.release();
    trimMemory();
    externalMemory(hostBytes(llm));
    options.onProgress?.({
      stage: 'ready',
      done: files.weights.totalBytes,
      total: files.weights.totalBytes,
      memory,
    });
    return llm;
  } catch (error) {
    model?.dispose();
    stream.dispose();
    throw error;
  }
}

function pick<K extends keyof LoadOptions>(options: LoadOptions, key: K): Pick<LoadOptions, K> | object {
  return options[key] === undefined ? {} : { [key]: options[key] };
}

/** What a model keeps in the memory of the host. */
const hostBytes = ({ stream, memory }: LLM): number => (stream.device === 'cpu' ? memory.total : 0);

/** A loaded model: text in, text out. */
export class LLM {
  readonly config: ModelConfig;
  readonly files: ModelFiles;
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate | null;
  readonly engine: Engine;
  readonly memory: MemoryPlan;
  /** Sampling that the model's own generation_config.json asks for; explicit options win. */
  readonly defaults: SamplingParams;
  readonly #model: LlamaModel;
  #disposed = false;

  /** @internal use {@link load} */
  constructor(parts: {
    files: ModelFiles;
    model: LlamaModel;
    tokenizer: Tokenizer;
    template: ChatTemplate | null;
    engine: Engine;
    memory: MemoryPlan;
    defaults: SamplingParams;
  }) {
    this.config = parts.files.config;
    this.files = parts.files;
    this.tokenizer = parts.tokenizer;
    this.template = parts.template;
    this.engine = parts.engine;
    this.memory = parts.memory;
    this.defaults = parts.defaults;
    this.#model = parts.model;
  }

  /** Runs given texts through the model; the caller disposes it. `length`: longest text, at most the context. */
  evaluator(options: { length?: number; chunk?: number } = {}): Evaluator {
    return new Evaluator(this.#model, {
      length: this.engine.options.contextLength,
      kvDtype: this.engine.options.kvDtype,
      ...options,
    });
  }

  get stream(): Stream {
    return this.#model.stream;
  }

  /** Continues a text, or token ids as they are. */
  complete(prompt: string | readonly number[], options: GenerateOptions = {}): Generation {
    return this.#generate(async () => {
      if (typeof prompt === 'string') return this.tokenizer.encode(prompt);
      if (Array.isArray(prompt)) return [...prompt];
      throw invalidPrompt(prompt);
    }, options);
  }

  /** Answers a conversation, through the model's chat template. */
  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Generation {
    return this.#generate(async () => {
      const text = await this.render(messages, options);
      // The template writes the control tokens itself, bos included.
      return this.tokenizer.encode(text, { bos: false });
    }, options);
  }

  /** The text that `chat` gives to the model. @throws EyrieError EYRIE_TEMPLATE */
  async render(
    messages: readonly ChatMessage[],
    options: Pick<ChatOptions, 'templateVariables' | 'tools'> = {},
  ): Promise<string> {
    if (!this.template) {
      throw new EyrieError(
        'EYRIE_TEMPLATE',
        `${this.files.path} has no chat template; use complete() with the model's own prompt format (eyrie run --raw)`,
      );
    }
    return this.template.render([...messages], {
      addGenerationPrompt: true,
      tools: options.tools ?? null,
      extra: options.templateVariables ?? {},
    });
  }

  #generate(promptIds: () => Promise<number[]>, options: GenerateOptions): Generation {
    const sequences: Sequence[] = [];
    let cancelled = false;
    const cancel = () => {
      cancelled = true;
      for (const s of sequences) this.engine.abort(s);
    };
    return new Generation(async (generation) => {
      const n = options.n ?? 1;
      if (!Number.isInteger(n) || n < 1)
        throw new EyrieError('EYRIE_INVALID_ARGUMENT', `n: expected an integer >= 1, got ${n}`);
      const ids = await promptIds();
      generation.setPrompt(ids);
      const stops = typeof options.stop === 'string' ? [options.stop] : (options.stop ?? []);
      const eos = new Set([
        ...(options.ignoreEos ? [] : this.tokenizer.eosIds),
        ...(options.ignoreEos ? [] : this.config.eosIds),
        ...(options.stopIds ?? []),
      ]);
      const sampling = { ...this.defaults, ...options };
      // Choice i draws from seed + i. The first one computes the prompt; the others fork from it when it is there.
      const seed = options.seed ?? Math.floor(Math.random() * 2 ** 52);
      const sinks = Array.from({ length: n }, () => generation.choice());
      const room = Math.min(this.engine.options.contextLength, this.engine.options.kvTokens) - ids.length;
      const maxTokens = options.maxTokens ?? Math.max(1, room);
      const submit = (i: number, controller: Controller) => ({
        sampling: { ...sampling, seed: seed + i },
        maxTokens,
        stopIds: eos,
        controller,
        signal: options.signal,
      });
      const text = (i: number) =>
        new TextController(this.tokenizer.decoder({ skipSpecial: true }), stops, sinks[i]!);
      const leader = new ForkingController(text(0), {
        fork: () => {
          for (let i = 1; i < n; i++)
            sequences.push(this.engine.fork(sequences[0]!, submit(i, text(i)), ids.length));
        },
        never: (reason) => {
          for (const sink of sinks.slice(1)) sink.end('', reason);
        },
      });
      sequences.push(this.engine.submit(ids, submit(0, n > 1 ? leader : text(0))));
      if (cancelled) cancel();
    }, cancel);
  }

  /** Ends all generations (EYRIE_ABORTED) and frees everything. */
  async dispose(): Promise<void> {
    if (!this.#disposed) externalMemory(-hostBytes(this));
    this.#disposed = true;
    await this.engine.close();
    this.#model.dispose();
    this.#model.stream.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}
