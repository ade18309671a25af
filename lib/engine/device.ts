import { EyrieError } from '../errors.ts';
import { native } from '../native/load.ts';
import { availableMemory } from '../tensor/memory.ts';
import type { TensorInfo } from '../weights/index.ts';
import { checkMemory, type MemoryPlan } from './memory-plan.ts';

/** Bytes that a device has left for a model. */
function freeBytes(device: string): number {
  const gpu = /^cuda(?::(\d+))?$/.exec(device);
  return gpu ? native().deviceMemory(Number(gpu[1] ?? 0)).free : availableMemory();
}

/**
 * The device a model runs on, and what it will take there. `'auto'` (and nothing) take the first GPU when one is there, has kernels for all formats of
 * the file, and the plan fits its free memory, else the CPU; EYRIE_DEVICE stands in for a missing option.
 * @param cpuOnly a matrix of the file whose format only the CPU has
 * @throws EyrieError EYRIE_INVALID_ARGUMENT; EYRIE_NO_DEVICE; EYRIE_UNSUPPORTED; EYRIE_OUT_OF_MEMORY with the numbers when the plan does not fit
 */
export function chooseDevice(
  path: string,
  option: string | undefined,
  plan: (device: string) => MemoryPlan,
  cpuOnly?: TensorInfo,
): { device: string; memory: MemoryPlan } {
  const wanted = option ?? (process.env.EYRIE_DEVICE || 'auto');
  if (!/^(auto|cpu|cuda(:\d+)?|emulated)$/.test(wanted)) {
    throw new EyrieError(
      'EYRIE_INVALID_ARGUMENT',
      `device: expected 'auto', 'cpu' or 'cuda:N', got '${String(wanted)}'`,
    );
  }
  const { cuda } = native().machine();
  if (wanted === 'auto' && !cpuOnly) {
    const memory = plan('cuda:0');
    if (cuda.devices > 0 && memory.total <= freeBytes('cuda:0')) return { device: 'cuda:0', memory };
  }
  const device = wanted === 'auto' ? 'cpu' : wanted;
  const gpu = /^cuda(?::(\d+))?$/.exec(device);
  if (gpu && Number(gpu[1] ?? 0) >= cuda.devices) {
    const why = cuda.devices === 0 ? cuda.message : `there are ${cuda.devices}`;
    throw new EyrieError('EYRIE_NO_DEVICE', `device ${device}: ${why}`);
  }
  if (device !== 'cpu' && cpuOnly) {
    throw new EyrieError(
      'EYRIE_UNSUPPORTED',
      `${path}: tensor "${cpuOnly.name}" is ${cpuOnly.dtype}, which device ${device} has no kernel for yet; use device 'cpu' or 'auto', or a file in another format`,
    );
  }
  const memory = plan(device);
  checkMemory(path, memory, device, freeBytes(device));
  return { device, memory };
}

/** `'native'`: what the processor does fastest; `'portable'`: what all levels with fused multiply-adds do alike. */
export type Arithmetic = 'native' | 'portable';
export const ARITHMETICS: readonly Arithmetic[] = ['native', 'portable'];

/**
 * The level of a CPU stream out of the options of `load`; '': the best one.
 * @throws EyrieError EYRIE_INVALID_ARGUMENT; EYRIE_UNSUPPORTED for portable arithmetic on another device
 */
export function chooseLevel(
  device: string,
  level: string | undefined,
  arithmetic: Arithmetic | undefined,
): string {
  if (arithmetic !== undefined && !ARITHMETICS.includes(arithmetic))
    throw new EyrieError(
      'EYRIE_INVALID_ARGUMENT',
      `arithmetic: expected 'native' or 'portable', got '${String(arithmetic)}'`,
    );
  if (arithmetic !== 'portable') return level ?? '';
  if (level !== undefined)
    throw new EyrieError(
      'EYRIE_INVALID_ARGUMENT',
      `arithmetic: 'portable' chooses a level, and level is '${level}'; pass one of them`,
    );
  if (device !== 'cpu')
    throw new EyrieError(
      'EYRIE_UNSUPPORTED',
      `arithmetic: 'portable' is an arithmetic of the CPU, and the device is ${device}; add device: 'cpu'`,
    );
  return 'portable';
}
