import type { Machine } from '../native/addon.ts';

export interface MachineInfo extends Machine {
  /** Instruction-set level that streams take. */
  level: string;
  levelReason: string;
  /** The level that portable arithmetic takes. */
  portableLevel: string;
  threads: number;
  availableMemory: number;
  node: string;
  platform: string;
}

/** What this machine offers, and what a load would take of it. @throws EyrieError EYRIE_NATIVE_LOAD */
export async function readMachineInfo(): Promise<MachineInfo> {
  const { native } = await import('../native/load.ts');
  const { Stream } = await import('../tensor/stream.ts');
  const { availableMemory } = await import('../tensor/memory.ts');
  const machine = native().machine();
  // Only a stream knows its level and threads: the environment has a say in both.
  const stream = new Stream();
  const portable = new Stream({ level: 'portable', threads: 1 });
  try {
    const best = stream.name === machine.levels.at(-1);
    return {
      ...machine,
      level: stream.name,
      levelReason: best ? 'the best' : 'chosen by EYRIE_CPU_LEVEL out',
      portableLevel: portable.name,
      threads: stream.threads,
      availableMemory: availableMemory(),
      node: process.version,
      platform: `${process.platform}-${process.arch}`,
    };
  } finally {
    stream.dispose();
    portable.dispose();
  }
}
