import { EyrieError } from '../errors.ts';
import { templateRunner } from './template-runner.ts';

export interface ChatMessage {
  role: string;
  /** Text, or parts as in the OpenAI format; parts that are all text are joined by newlines. */
  content?: string | ContentPart[] | null;
  [key: string]: unknown;
}

export interface ContentPart {
  type: string;
  text?: string;
  [key: string]: unknown;
}

export interface RenderOptions {
  /** Ends the prompt with the opening of an assistant's turn. Default: true. */
  addGenerationPrompt?: boolean;
  tools?: unknown[] | null;
  /** Further variables of the template, such as `enable_thinking`. */
  extra?: Record<string, unknown>;
  /** Time for the template itself, without the start of its thread. Default: 2000. */
  timeoutMs?: number;
}

/**
 * A chat template in Jinja, as models carry it. It is a program from a file that may come from anywhere, so it runs in
 * a thread with limits of time and memory.
 */
export class ChatTemplate {
  readonly #template: string | null;
  readonly #vars: Record<string, string>;

  /** `template` may be null, as in a {@link TokenizerSource}; rendering then says what to do. */
  constructor(template: string | null, vars: Record<string, string> = {}) {
    this.#template = template;
    this.#vars = { ...vars };
  }

  /** Starts the renderer's thread ahead of the first render; optional. */
  warm(): void {
    if (this.#template !== null) templateRunner.warm();
  }

  async render(messages: readonly ChatMessage[], options: RenderOptions = {}): Promise<string> {
    if (this.#template === null) {
      throw new EyrieError(
        'EYRIE_TEMPLATE',
        'chat template: expected one beside the model, found none. Use complete() (on the command line: --raw) with ' +
          'a prompt of your own, or pass a template.',
      );
    }
    if (!Array.isArray(messages)) {
      throw new EyrieError('EYRIE_INVALID_ARGUMENT', `messages: expected an array, got ${typeof messages}`);
    }
    const { addGenerationPrompt = true, tools = null, extra = {}, timeoutMs = 2000 } = options;
    const context = {
      // Templates ask `tools is none`, which an absent variable does not answer.
      documents: null,
      ...this.#vars,
      ...extra,
      messages: messages.map(prepare),
      tools: tools && tools.length > 0 ? tools : null,
      add_generation_prompt: addGenerationPrompt,
    };
    return templateRunner.run({ template: this.#template, context, timeoutMs });
  }
}

function prepare(message: ChatMessage, index: number): ChatMessage {
  if (message === null || typeof message !== 'object' || typeof message.role !== 'string') {
    throw new EyrieError(
      'EYRIE_INVALID_ARGUMENT',
      `messages[${index}]: expected an object with a string "role", got ${JSON.stringify(message)}`,
    );
  }
  const { content } = message;
  if (!Array.isArray(content) || !content.every((part) => part.type === 'text')) return message;
  return { ...message, content: content.map((part) => part.text ?? '').join('\n') };
}
