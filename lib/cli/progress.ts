import type { GenerationResult, LoadOptions, MemoryPlan } from '../engine/index.ts';
import { formatBytes, peakMemory } from '../tensor/memory.ts';

/** A state that replaces itself on a terminal, and is a line now and then elsewhere. All on standard error. */
export class Progress {
  readonly #quiet: boolean;
  readonly #step: number;
  readonly #live: boolean = process.stderr.isTTY === true;
  #shown = 0;
  #reached = 0;

  /** `step`: share of the whole after which another line is due. */
  constructor(quiet: boolean, step = 0.25) {
    this.#quiet = quiet;
    this.#step = step;
  }

  show(share: number, text: string): void {
    if (this.#quiet) return;
    if (this.#live) {
      const now = performance.now();
      if (now - this.#shown < 100 && share < 1) return;
      this.#shown = now;
      process.stderr.write(`\r\x1b[K${text}`);
    } else if (share >= this.#reached + this.#step || (share >= 1 && this.#reached < 1)) {
      this.#reached = share;
      process.stderr.write(`${text}\n`);
    }
  }

  /** Takes the live line away. */
  clear(): void {
    if (!this.#quiet && this.#live && this.#shown > 0) process.stderr.write('\r\x1b[K');
  }
}

export function loadProgress(quiet: boolean): NonNullable<LoadOptions['onProgress']> {
  const progress = new Progress(quiet);
  return ({ stage, done, total }) => {
    if (stage === 'ready') return progress.clear();
    const share = total > 0 ? done / total : 1;
    progress.show(share, `loading weights ${Math.floor(share * 100)} % of ${formatBytes(total)}`);
  };
}

export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

const ENDINGS: Partial<Record<GenerationResult['finishReason'], string[]>> = {
  length: ['cut at the length limit'],
  abort: ['interrupted'],
};

/** The last line of a run. */
export function summary(result: GenerationResult, plan: MemoryPlan): string {
  const { promptTokensPerSecond: prompt, generatedTokensPerSecond: generated } = result.timings;
  const rate = (perSecond: number): string => (perSecond > 0 ? `, ${perSecond.toFixed(1)} tokens/s` : '');
  const memory = `weights ${formatBytes(plan.weights)}, KV cache ${formatBytes(plan.kv)}`;
  const parts = [
    `prompt ${count(result.promptIds.length, 'token')}${rate(prompt)}`,
    `${count(result.ids.length, 'token')}${rate(generated)}`,
    ...(ENDINGS[result.finishReason] ?? []),
    `peak memory ${formatBytes(peakMemory())} (${memory})`,
  ];
  return parts.join(' · ');
}
