import type { Generation } from '../engine/index.ts';

/** Writes the text as it comes, and ends it with a line break. */
export async function streamText(generation: Generation): Promise<string> {
  let text = '';
  for await (const part of generation) {
    text += part.text;
    if (part.text) process.stdout.write(part.text);
  }
  if (!text.endsWith('\n')) process.stdout.write('\n');
  return text;
}
