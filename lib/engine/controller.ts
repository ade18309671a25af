import type { Drawn } from '../sampling/index.ts';

/** Why a sequence ended. */
export type FinishReason = 'stop' | 'length' | 'abort';

/**
 * Sees a sequence's tokens right after each step, before the next one is scheduled: stop strings and text live here; budget forcing
 * and grammars will.
 */
export interface Controller {
  /** Takes one accepted token; a reason ends the sequence. `eos`: the token is one that ends a generation. */
  accept(token: Drawn, eos: boolean): FinishReason | null;
  /** The sequence ended; called exactly once. */
  finish(reason: FinishReason, error?: unknown): void;
}
