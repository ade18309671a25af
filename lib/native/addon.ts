import type { Handle, NativeOps } from './ops.gen.ts';

/** What this machine offers, as the addon sees it. */
export interface Machine {
  /** Model name of the processor. */
  cpu: string;
  /** Cores that are really there (affinity mask and cgroup quota). */
  cores: number;
  /** Instruction-set levels that this processor can run, ascending. */
  levels: string[];
  /** Levels built into the addon that this processor lacks. */
  missingLevels: string[];
  cuda: { built: boolean; emulated: boolean; devices: number; driver: number; message: string };
}

/** The exports of the native addon. Tensors, streams and graphs are numbers; errors carry a `code`. */
export interface Addon {
  ops: NativeOps;
  alloc(stream: number, dtype: string, shape: readonly number[], packed: boolean): Handle;
  /** What a packed matrix takes, and whether devices other than the CPU have its format. */
  weightFormat(format: string, outputs: number, inputs: number): { bytes: number; onDevices: boolean };
  mapFile(path: string, bytes: number): Handle;
  view(
    tensor: Handle,
    dtype: string,
    shape: readonly number[],
    strides: readonly number[] | null,
    offset: number,
  ): Handle;
  dispose(tensor: Handle): void;
  write(stream: number, tensor: Handle, data: ArrayBufferView): void;
  read(stream: number, tensor: Handle): Promise<ArrayBuffer>;
  sync(stream: number): Promise<ArrayBuffer>;
  discard(stream: number, tensor: Handle): void;
  createStream(device: string, threads: number, level: string): number;
  streamInfo(stream: number): { name: string; threads: number; debug: boolean };
  /** What the first worker has waited for the others, at the ends of launches and at barriers inside, since the first call. */
  waits(stream: number): { launches: number; barriers: number; ms: number };
  label(stream: number, text: string): void;
  closeStream(stream: number): void;
  hold(stream: number, on: 0 | 1): void;
  beginCapture(stream: number): void;
  endCapture(stream: number): number;
  launchGraph(stream: number, graph: number): void;
  disposeGraph(graph: number): void;
  onError(make: (code: string, message: string) => Error): void;
  schema(): { name: string; signature: string }[];
  machine(): Machine;
  deviceMemory(device: number): { free: number; total: number };
  /** Gives freed memory of native libraries back to the system. */
  trim(): void;
  /** Freed memory goes back to the system by itself from now on. */
  boundAllocator(): void;
  /** Tells the garbage collector that objects keep so much more memory (or less) alive outside of its heap. */
  externalMemory(change: number): number;
  memory(): { allocated: number; peak: number; tensors: number; streams: number };
}
