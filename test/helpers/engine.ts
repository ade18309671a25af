import { fileURLToPath } from 'node:url';
import { Engine, type EngineOptions } from '../../lib/engine/index.ts';
import { loadWeights, openModel, type Quantization } from '../../lib/models/index.ts';
import type { Drawn, SamplingParams } from '../../lib/sampling/index.ts';
import { Stream, type StreamOptions } from '../../lib/tensor/index.ts';

/** Path of a golden checkpoint. */
export function goldenModel(name: string): string {
  return fileURLToPath(new URL(`../golden/models/${name}`, import.meta.url));
}

/** Path of a golden GGUF, which has a tokenizer. */
export function goldenGguf(name: string): string {
  return fileURLToPath(new URL(`../golden/gguf/${name}.gguf`, import.meta.url));
}

export async function makeEngine(
  name: string,
  engine: Partial<EngineOptions> = {},
  stream: StreamOptions = { threads: 2 },
  weights?: Quantization,
) {
  const s = new Stream(stream);
  const model = await loadWeights(await openModel(goldenModel(name)), s, {
    activations: 'auto',
    positions: 256,
    weights,
  });
  const e = new Engine(model, {
    contextLength: 256,
    kvTokens: 1024,
    kvDtype: 'f16',
    maxBatchTokens: 64,
    maxSequences: 8,
    ...engine,
  });
  return {
    engine: e,
    stream: s,
    model,
    async close() {
      await e.close();
      model.dispose();
      s.dispose();
    },
  };
}

/** Submits ids and collects the tokens drawn. */
export function run(
  engine: Engine,
  prompt: readonly number[],
  sampling: SamplingParams,
  count: number,
  each?: (t: Drawn, n: number) => void,
): Promise<Drawn[]> {
  const drawn: Drawn[] = [];
  return new Promise((resolve, reject) => {
    engine.submit(prompt, {
      sampling,
      maxTokens: count,
      stopIds: new Set(),
      controller: {
        accept: (t) => {
          drawn.push(t);
          each?.(t, drawn.length);
          return null;
        },
        finish: (_, error) => (error ? reject(error) : resolve(drawn)),
      },
    });
  });
}

export function ids(drawn: readonly Drawn[]): number[] {
  return drawn.map((d) => d.id);
}
