import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import { native } from '../native/load.ts';

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}

/** Bytes that this process could still allocate: what the system calls available, within the limit of its cgroup. */
export function availableMemory(): number {
  const info = /MemAvailable:\s+(\d+) kB/.exec(read('/proc/meminfo') ?? '');
  let available = info ? Number(info[1]) * 1024 : freemem();
  const limit = read('/sys/fs/cgroup/memory.max') ?? read('/sys/fs/cgroup/memory/memory.limit_in_bytes');
  const used = read('/sys/fs/cgroup/memory.current') ?? read('/sys/fs/cgroup/memory/memory.usage_in_bytes');
  if (limit && used && /^\d+$/.test(limit))
    available = Math.min(available, Math.max(0, Number(limit) - Number(used)));
  return available;
}

/** Peak resident memory of this process in bytes. */
export function peakMemory(): number {
  const m = /VmHWM:\s+(\d+) kB/.exec(read('/proc/self/status') ?? '');
  return m ? Number(m[1]) * 1024 : process.memoryUsage().rss;
}

/** Gives memory that was freed and kept, or taken for weights and not needed, back to the system. */
export function trimMemory(): void {
  native().trim();
}

/**
 * Lets freed memory of 256 KB and more go back to the system at once, in the whole process (glibc: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD,
 * unless MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_ or GLIBC_TUNABLES is set).
 */
export function boundAllocator(): void {
  native().boundAllocator();
}

/**
 * Tells the garbage collector of `bytes` (negative: no longer) outside of its heap.
 * It looks for garbage earlier then: a model as a whole begins a collection of what loading it has left behind.
 */
export function externalMemory(bytes: number): void {
  native().externalMemory(bytes);
}

/** A number of bytes for people. */
export function formatBytes(bytes: number): string {
  if (bytes < 1e3) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
