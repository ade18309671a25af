// Classic bugs of CUDA kernels, planted one at a time in the fixtures (`from` occurs once), and how each is noticed:
//   bits        the result differs from that of the unchanged fixture
//   schedules   schedules of the emulation disagree
//   error       the emulation reports it
//   asan        AddressSanitizer reports it
//   nothing     it cannot be seen on the CPU: the list says so, so that nobody relies on it

/** @typedef {{ bug: string, fixture: string, from: string, to: string, noticed: string[] }} Mutation */

const of = (fixture, list) =>
  list.map(([bug, noticed, from, to]) => ({ bug, fixture, from, to, noticed: noticed.split(' ') }));

/** @type {Mutation[]} */
export const MUTATIONS = [
  ...of('rows', [
    [
      'no barrier before the sums of warps are read',
      'schedules',
      '__syncthreads();  // partial is complete',
      '',
    ],
    ['no barrier before they are written again', 'schedules', '__syncthreads();  // partial may be', '//'],
    [
      'no barrier before other threads’ values are read',
      'schedules',
      '__syncthreads();  // partial and cache',
      '//',
    ],
    ['no barrier before the next row', 'schedules', 'if (__syncthreads_or(!(sum > 0))) return;', ''],
    [
      'no __syncwarp before other lanes’ values are read',
      'schedules',
      '__syncwarp();  // before others',
      '//',
    ],
    ['no __syncwarp before they are written again', 'schedules', '__syncwarp();  // before the next', '//'],
    [
      'a barrier that a part of the block passes by',
      'error',
      '__syncthreads();  // partial is complete',
      'if (threadIdx.x < 100) __syncthreads();',
    ],
    [
      'a barrier on either side of a branch',
      'error',
      '__syncthreads();  // partial may be written again',
      'if (lane < 16) __syncthreads();\nelse __syncthreads();',
    ],
    [
      'a shuffle whose mask leaves lanes out',
      'error',
      'x = fmaxf(x, __shfl_xor_sync(0xffffffffu',
      'x = fmaxf(x, __shfl_xor_sync(0xffffu',
    ],
    ['a shuffle inside of a branch', 'error', 'sum = warp_sum(sum);', 'if (lane < 20) sum = warp_sum(sum);'],
    [
      'a reduction that stops at 16 lanes',
      'bits schedules',
      'x += __shfl_xor_sync(0xffffffffu, x, lanes)',
      'x += __shfl_xor_sync(0xffffffffu, x, lanes & 7)',
    ],
    [
      'shared memory that nobody wrote',
      'bits schedules',
      'if (lane == 0) s.partial[warp] = sum;',
      'if (threadIdx.x == 0) s.partial[warp] = sum;',
    ],
    [
      'a read past the row (global memory)',
      'asan',
      'top = fmaxf(top, from[i]);',
      'top = fmaxf(top, from[i + (i == n - 1)]);',
    ],
    ['shared memory that is too small', 'error asan', 'offsetof(Arena, cache) + size_t(n)', 'size_t(n)'],
  ]),
  ...of('product', [
    [
      'a wait that leaves the copy on its way',
      'schedules bits',
      'copy_async_wait<1>()',
      'copy_async_wait<2>()',
    ],
    ['no wait', 'schedules bits', 'copy_async_wait<1>();', ''],
    [
      'no commit of the next group',
      'schedules bits',
      'if (part + 2 < parts) issue(s, a, b, shape, part + 2);\n    copy_async_commit();',
      'if (part + 2 < parts) issue(s, a, b, shape, part + 2);',
    ],
    ['no barrier after the wait', 'schedules', '__syncthreads();  // the part has landed', '//'],
    [
      'no barrier before the buffer is filled again',
      'schedules',
      '__syncthreads();  // the buffer may',
      '//',
    ],
    [
      'both parts in one buffer',
      'schedules bits',
      '&s.a[part & 1][row][column], a +',
      '&s.a[0][row][column], a +',
    ],
    [
      'fragments of A in the wrong order',
      'bits',
      'wm + (lane & 15)][kk + (lane >> 4) * 8',
      'wm + (lane >> 4) * 8 + (lane & 7)][kk + (lane >> 3 & 1) * 8',
    ],
    ['fragments of B in the wrong order', 'bits', 'first[2] = {fb[0], fb[1]}', 'first[2] = {fb[0], fb[2]}'],
    ['a matrix load that transposes', 'bits', 'load_matrix4<false>(fb', 'load_matrix4<true>(fb'],
    ['rows that are not aligned for a matrix load', 'error', 'kPad = 8', 'kPad = 4'],
    [
      'a matrix product without one of its lanes',
      'error',
      'mma_bf16(d[0], fa, first);',
      'if (lane < 31) mma_bf16(d[0], fa, first);',
    ],
    [
      'a tail that is not filled with zeros',
      'bits schedules',
      'copy_async16(&s.b[part & 1][row][column], b + (b_valid ? bn * shape.k + k : 0), b_valid)',
      'if (b_valid) copy_async16(&s.b[part & 1][row][column], b + bn * shape.k + k, true)',
    ],
    ['inputs past K', 'bits asan', 'inside = k < shape.k', 'inside = true'],
    ['rows past N read', 'asan', 'b_valid = inside && bn < shape.n', 'b_valid = inside'],
    ['rows past M written', 'asan', 'row < shape.m && column < shape.n', 'column < shape.n'],
    ['columns past N written', 'bits schedules asan', 'row < shape.m && column < shape.n', 'row < shape.m'],
    [
      'shared memory of one buffer too few',
      'error',
      'kThreads, sizeof(Arena)',
      'kThreads, sizeof(Arena) / 2',
    ],
  ]),
  ...of('counts', [
    ['a ticket that is not zero again', 'bits', 'atomicInc(ticket, gridDim.x - 1)', 'atomicAdd(ticket, 1)'],
    [
      'a sum in the order in which blocks finish',
      'schedules',
      'partial[blockIdx.x] = sums[0];',
      'atomicAdd(partial, sums[0]);',
    ],
    ['no barrier between the levels of a tree', 'schedules', '__syncthreads();  // the level before', '//'],
    ['no barrier before the flag of the last block', 'schedules', '__syncthreads();  // last is known', ''],
    [
      'the last block is the one with the last number',
      'schedules',
      '*last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1',
      '*last = blockIdx.x == gridDim.x - 1',
    ],
    ['counters that do not start at zero', 'bits schedules', 'if (threadIdx.x < 16) s[threadIdx.x] = 0;', ''],
    ['no barrier after they are set to zero', 'schedules', '__syncthreads();  // the bins are zero', ''],
    ['no barrier before they are read', 'schedules', '__syncthreads();  // the bins are counted', ''],
    [
      'a match among lanes that are not there',
      'error',
      '__match_any_sync(active, bin)',
      '__match_any_sync(0xffffffffu, bin)',
    ],
    ['every lane of a match adds for all', 'bits', 'if (lane == __ffs(same) - 1) ', ''],
    ['a prefix that counts its own lane', 'bits asan', '(1u << lane) - 1', '(2u << lane) - 1'],
    ['a scan without its guard', 'bits schedules', 'if (lane >= up) sum += other;', 'sum += other;'],
    ['no barrier before the scan', 'schedules bits', '__syncthreads();  // counts are known', ''],
    ['no barrier after the scan', 'schedules', '__syncthreads();  // counts are scanned', ''],
    ['no barrier before the next counts', 'schedules', '__syncthreads();  // counts may be', '//'],
    [
      'a tail that is not masked',
      'asan',
      'const bool keep = i < n && x[i] > 0;',
      'const bool keep = x[i] > 0;',
    ],
    ['no fence before a ticket', 'nothing', '__threadfence();', ''],
    [
      'an addition to shared memory that is not atomic',
      'nothing',
      'atomicAdd(s + bin, __popc(same))',
      's[bin] += __popc(same)',
    ],
    [
      'no wait for the kernel before',
      'nothing',
      'int* bins, int n) {\n  GPU_SHARED(shared);\n  int* s = reinterpret_cast<int*>(shared);\n  dependency_wait();',
      'int* bins, int n) {\n  GPU_SHARED(shared);\n  int* s = reinterpret_cast<int*>(shared);',
    ],
  ]),
];
