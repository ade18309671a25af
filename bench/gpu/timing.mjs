// Times on a GPU: calls are recorded into one graph, which is launched between two waits. Nothing is subtracted.
import { median } from '../report.mjs';

/**
 * µs of one call. `calls`: the same work on copies of its data that together exceed the L2 cache, so that it comes from memory.
 * @param {import('../../dist/ops/index.js').Stream} stream
 * @param {(() => void)[]} calls
 */
export async function timeCalls(stream, calls, { ms = 20, rounds = 9, nodes = 200 } = {}) {
  for (const call of calls) call(); // grows the workspace before the graph holds its address
  await stream.sync();
  const copies = Math.max(1, Math.floor(nodes / calls.length));
  const graph = stream.capture(() => {
    for (let i = 0; i < copies; i++) for (const call of calls) call();
  });
  try {
    return await timeGraph(stream, graph, copies * calls.length, { ms, rounds });
  } finally {
    graph.dispose();
  }
}

/** µs of one of the `count` parts of a graph. */
export async function timeGraph(stream, graph, count, { ms = 20, rounds = 9 } = {}) {
  const launch = async (times) => {
    const start = performance.now();
    for (let i = 0; i < times; i++) graph.launch();
    await stream.sync();
    return performance.now() - start;
  };
  await launch(1);
  const once = await launch(2);
  const times = Math.max(1, Math.min(2000, Math.ceil((2 * ms) / Math.max(0.001, once))));
  await launch(times);
  const samples = [];
  for (let i = 0; i < rounds; i++) samples.push((1e3 * (await launch(times))) / (times * count));
  return { us: median(samples), minUs: Math.min(...samples), maxUs: Math.max(...samples) };
}
