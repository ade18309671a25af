import type { LLM } from '../engine/index.ts';
import type { ChatMessage } from '../tokenizer/index.ts';

/** One question as a conversation. */
export function conversation(prompt: string, system?: string): ChatMessage[] {
  const before = system === undefined ? [] : [{ role: 'system', content: system }];
  return [...before, { role: 'user', content: prompt }];
}

/**
 * The ids of a conversation. Commands render and encode by themselves, so that the prompt's tokens per second are about
 * the model alone.
 */
export async function chatIds(llm: LLM, messages: readonly ChatMessage[]): Promise<number[]> {
  // The template writes the control tokens itself, BOS included.
  return llm.tokenizer.encode(await llm.render(messages), { bos: false });
}

/** Starts the thread that renders templates, which then gets ready while the weights are read. */
export async function warmTemplates(): Promise<void> {
  const { ChatTemplate } = await import('../tokenizer/index.ts');
  new ChatTemplate('').warm();
}
