import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { EyrieError } from '../errors.ts';
import { TEMPLATE_WORKER } from './template-worker.ts';

export interface TemplateJob {
  template: string;
  context: Record<string, unknown>;
  timeoutMs: number;
}

interface Pending extends TemplateJob {
  resolve: (text: string) => void;
  reject: (error: Error) => void;
}

type Reply = 'ready' | { text: string } | { stage: 'syntax' | 'raise' | 'render'; message: string };

const START_MS = 30_000;
const HEAP_MB = 256;

/**
 * Renders templates in one worker thread, one after the other. A template that takes too long or too much memory costs
 * its worker, not the process; the next render starts another. The thread exists from the first render on, and holds
 * the process open only while it renders.
 */
class TemplateRunner {
  #worker: Worker | null = null;
  #ready = false;
  #current: Pending | null = null;
  #timer: NodeJS.Timeout | undefined;
  readonly #queue: Pending[] = [];

  run(job: TemplateJob): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ ...job, resolve, reject });
      this.#next();
    });
  }

  /** Starts the worker without a job, so that the first render need not wait for it. */
  warm(): void {
    this.#worker ??= this.#start();
  }

  #start(): Worker {
    const jinja = createRequire(import.meta.url).resolve('@huggingface/jinja');
    const worker = new Worker(TEMPLATE_WORKER, {
      eval: true,
      workerData: { jinja },
      // Flags of the process, such as loaders, are not for the worker.
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
    });
    this.#ready = false;
    worker.on('message', (reply: Reply) => this.#onReply(worker, reply));
    worker.on('error', (error) => this.#onDeath(worker, error));
    worker.on('exit', () => this.#onDeath(worker, new Error('its thread ended')));
    worker.unref();
    return worker;
  }

  #next(): void {
    if (this.#current || this.#queue.length === 0) return;
    this.#current = this.#queue.shift()!;
    try {
      this.warm();
    } catch (cause) {
      const message = `chat template: no worker thread could be started: ${(cause as Error).message}`;
      this.#settle((pending) => pending.reject(new EyrieError('EYRIE_TEMPLATE', message, { cause })));
      return;
    }
    this.#worker!.ref();
    if (this.#ready) this.#send(this.#current);
    else this.#arm(START_MS, 'no worker thread started');
  }

  #send(job: Pending): void {
    this.#arm(job.timeoutMs, 'the template did not finish');
    try {
      this.#worker!.postMessage({ template: job.template, context: job.context });
    } catch (cause) {
      const why = (cause as Error).message;
      const message = `messages, tools or extra: expected plain data, got a value that is not: ${why}`;
      this.#settle((pending) => pending.reject(new EyrieError('EYRIE_INVALID_ARGUMENT', message, { cause })));
    }
  }

  #arm(ms: number, what: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      const dead = this.#worker;
      this.#worker = null;
      void dead?.terminate();
      const message = `chat template: ${what} within ${ms} ms. Raise timeoutMs, or pass another template.`;
      this.#settle((pending) => pending.reject(new EyrieError('EYRIE_TEMPLATE', message)));
    }, ms);
  }

  #onReply(worker: Worker, reply: Reply): void {
    if (worker !== this.#worker) return;
    if (reply === 'ready') {
      this.#ready = true;
      if (this.#current) this.#send(this.#current);
    } else if ('text' in reply) {
      this.#settle((pending) => pending.resolve(reply.text));
    } else {
      const what = {
        syntax: 'the template is malformed',
        raise: 'the template refuses these messages',
        render: 'the template failed on these messages',
      }[reply.stage];
      const message = `chat template: ${what}: ${reply.message}`;
      this.#settle((pending) => pending.reject(new EyrieError('EYRIE_TEMPLATE', message)));
    }
  }

  #onDeath(worker: Worker, cause: Error): void {
    if (worker !== this.#worker) return;
    this.#worker = null;
    const why =
      (cause as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY'
        ? `the template needs more than ${HEAP_MB} MB`
        : `the template could not be rendered: ${cause.message}`;
    const error = new EyrieError('EYRIE_TEMPLATE', `chat template: ${why}. Pass another template.`, {
      cause,
    });
    this.#settle((pending) => pending.reject(error));
  }

  #settle(how: (pending: Pending) => void): void {
    clearTimeout(this.#timer);
    this.#worker?.unref();
    const pending = this.#current;
    this.#current = null;
    if (pending) how(pending);
    this.#next();
  }
}

/** One for the process: renders take a millisecond. */
export const templateRunner = new TemplateRunner();
