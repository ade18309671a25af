import { EyrieError } from '../errors.ts';
import { native } from '../native/load.ts';

export interface StreamOptions {
  /** `'cpu'` or `'cuda:N'`. @default 'cpu' */
  device?: string;
  /** Worker threads of a CPU stream. @default the cores that are there (EYRIE_THREADS overrides) */
  threads?: number;
  /**
   * Instruction-set level of a CPU stream. Of the device `'emulated'` of test builds: the schedule of its threads,
   * `'order=0..4,eager=0|1,seed=N,workers=N'`. @default the best one (EYRIE_CPU_LEVEL overrides)
   */
  level?: string;
}

/** A recorded list of op calls; see {@link Stream.capture}. */
export class Graph {
  #stream: Stream;
  #id: number;

  constructor(stream: Stream, id: number) {
    this.#stream = stream;
    this.#id = id;
  }

  /** Enqueues everything that was recorded, reading the same tensors again. */
  launch(): void {
    native().launchGraph(this.#stream.id, this.#id);
  }

  dispose(): void {
    native().disposeGraph(this.#id);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * An ordered queue on a device. Op calls validate at once, enqueue and return; `await tensor.read()` and `await sync()`
 * are the only waits. Kernels run on the stream's own threads, never on the JavaScript thread.
 */
export class Stream {
  readonly device: string;
  /** The native number of the stream. @internal */
  readonly id: number;
  /** Whether every launch is checked for values that are not finite: EYRIE_DEBUG was set when the stream was created. */
  readonly debug: boolean;

  /** @throws EyrieError EYRIE_NO_DEVICE, EYRIE_INVALID_ARGUMENT */
  constructor(options: StreamOptions = {}) {
    this.device = options.device ?? 'cpu';
    const threads = options.threads ?? 0;
    if (!Number.isInteger(threads) || threads < 0 || (options.threads !== undefined && threads < 1)) {
      throw new EyrieError('EYRIE_INVALID_ARGUMENT', `threads: expected an integer >= 1, got ${threads}`);
    }
    this.id = native().createStream(this.device, threads, options.level ?? '');
    this.debug = native().streamInfo(this.id).debug;
  }

  /** The level (`'avx2'`, …) or the name of the GPU. */
  get name(): string {
    return native().streamInfo(this.id).name;
  }

  get threads(): number {
    return native().streamInfo(this.id).threads;
  }

  /**
   * What the first worker of a CPU stream has waited for the others, in all, since this was first read: at the ends of ops (`launches`) and at `barriers` inside
   * them. Zeros with one thread, and on devices.
   */
  get waits(): { launches: number; barriers: number; ms: number } {
    return native().waits(this.id);
  }

  /** Names what the op calls that follow belong to (`'layer 3'`) in the errors of EYRIE_DEBUG; `''` for nothing. */
  label(text: string): void {
    if (this.debug) native().label(this.id, text);
  }

  /** Resolves when everything enqueued so far has run; rejects with the first error of it. */
  async sync(): Promise<void> {
    await native().sync(this.id);
  }

  /**
   * Runs `enqueue`, whose calls start together when it returns (or throws): the threads of a CPU stream then do not take the cores
   * from the thread that still enqueues. What it awaits must have been enqueued before. Do not nest.
   */
  together<T>(enqueue: () => T): T {
    native().hold(this.id, 1);
    try {
      return enqueue();
    } finally {
      native().hold(this.id, 0);
    }
  }

  /** Records the op calls of `record` instead of running them. Reads and writes are refused inside. */
  capture(record: () => void): Graph {
    native().beginCapture(this.id);
    let id: number | undefined;
    try {
      record();
    } finally {
      id = native().endCapture(this.id);
    }
    return new Graph(this, id);
  }

  /** Stops after the kernel that runs now; pending reads reject with EYRIE_ABORTED. Idempotent. */
  dispose(): void {
    native().closeStream(this.id);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
