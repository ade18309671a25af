import { describe, expect, it } from 'vitest';
import { LIB, sources, upwardImports, upwardIncludes } from './layers.ts';

const lib = sources('lib', /\.ts$/);
const csrc = sources('csrc', /\.(h|cc|cu|cuh)$/);

describe('arrows', () => {
  it('lib: no import points upwards', () => {
    expect(lib.length).toBeGreaterThan(10);
    expect(upwardImports(lib)).toEqual([]);
  });

  it('csrc: no include points upwards, only napi sees JavaScript, only cuda sees CUDA', () => {
    expect(csrc.length).toBeGreaterThan(10);
    expect(upwardIncludes(csrc)).toEqual([]);
  });

  it('the picture has no cycle', () => {
    const state = new Map<string, 'open' | 'done'>();
    const visit = (room: string): void => {
      expect(state.get(room), `${room} is below itself`).not.toBe('open');
      if (state.get(room) === 'done') return;
      state.set(room, 'open');
      for (const next of LIB[room]!) visit(next);
      state.set(room, 'done');
    };
    Object.keys(LIB).forEach(visit);
  });
});

describe('the judge itself', () => {
  it.each([
    ['an upward import', 'lib/ops/x.ts', "import { Engine } from '../engine/engine.ts';"],
    ['an upward type', 'lib/kv/x.ts', "import type { Scheduler } from '../engine/scheduler.ts';"],
    ['an upward re-export', 'lib/tensor/x.ts', "export * from '../ops/index.ts';"],
    ['a hidden import', 'lib/native/x.ts', "const t = await import('../tensor/tensor.ts');"],
    ['a neighbour', 'lib/tokenizer/x.ts', "import { openWeights } from '../weights/index.ts';"],
    ['an import over several lines', 'lib/nn/x.ts', "import {\n  load,\n} from '../models/index.ts';"],
    ['a worker', 'lib/tokenizer/x.ts', "new Worker(new URL('../server/worker.ts', import.meta.url));"],
    ['a room without arrows', 'lib/attic/x.ts', ''],
  ])('notices %s', (_, path, text) => {
    expect(upwardImports([{ path, text }])).toHaveLength(1);
  });

  it.each([
    ['downwards', 'lib/engine/x.ts', "import { Tensor } from '../tensor/index.ts';"],
    ['the error class', 'lib/native/x.ts', "import { EyrieError } from '../errors.ts';"],
    ['itself', 'lib/kv/x.ts', "import { Page } from './page.ts';"],
    ['packages', 'lib/kv/x.ts', "import { join } from 'node:path';"],
    [
      'comments',
      'lib/kv/x.ts',
      "// import { Engine } from '../engine/engine.ts';\n/* from '../cli/main.ts' */",
    ],
  ])('lets pass: %s', (_, path, text) => {
    expect(upwardImports([{ path, text }])).toEqual([]);
  });

  it.each([
    ['a kernel that sees JavaScript', 'csrc/cpu/x.cc', '#include <napi.h>'],
    ['a core that sees JavaScript', 'csrc/core/x.h', '#include <node_api.h>'],
    ['a host that sees CUDA', 'csrc/napi/x.cc', '#include <cuda_runtime.h>'],
    ['a core that sees a backend', 'csrc/core/x.cc', '#include "cpu/host/levels.h"'],
    ['a backend that sees its user', 'csrc/cuda/x.cu', '#include "napi/call.h"'],
    ['a backend that sees the other', 'csrc/cuda/x.cu', '#include "cpu/math.h"'],
    ['an emulation that sees CUDA', 'csrc/emulation/x.cc', '#include <cuda_runtime.h>'],
    ['a kernel that sees how it is emulated', 'csrc/cuda/x.cu', '#include "emulation/fibers.h"'],
    ['the addon that sees CUDA kernels', 'csrc/napi/x.cc', '#include "cuda/kernels.h"'],
    ['the host that sees kernels of a level', 'csrc/cpu/host/x.cc', '#include "cpu/math.h"'],
  ])('notices %s', (_, path, text) => {
    expect(upwardIncludes([{ path, text }])).toHaveLength(1);
  });

  it.each([
    ['core', 'csrc/cpu/x.cc', '#include "core/call.h"\n#include <math.h>'],
    ['the CUDA backend without CUDA', 'csrc/napi/x.cc', '#include "cuda/backend.h"'],
    ['kernels that may be emulated', 'csrc/cuda/gpu.cuh', '#include "emulation/emulation.h"'],
    ['CUDA headers in cuda', 'csrc/cuda/x.cu', '#include <cuda_bf16.h>'],
  ])('lets pass: %s', (_, path, text) => {
    expect(upwardIncludes([{ path, text }])).toEqual([]);
  });
});
