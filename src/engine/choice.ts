import { failureName } from '../failure.ts';
import { checkRunnable, type Described } from '../onnx/limits.ts';
import type { BackendChoice } from '../worker/api.ts';
import type { Backend } from './backend.ts';

/** What is known of the GPU before anything is loaded. */
export interface AdapterFacts {
  /** A driver in software: it computes on the CPU, and slower than what is made for it. */
  readonly software: boolean;
}

/** Which backend is tried, and whether the CPU may go on where the GPU fails. */
export interface Choice {
  readonly first: Backend['name'];
  readonly cpuCanFollow: boolean;
}

/**
 * Chooses what computes: a real GPU by our shaders, else the CPU. A person's wish is followed
 * without a way out; a package that the CPU cannot run goes to the GPU where there is any at all.
 * @param adapter null where the browser has no WebGPU adapter
 * @throws Failure CpuLimit where only the CPU is left, or is wished for, and cannot run the package
 */
export function chooseBackend(
  asked: BackendChoice,
  adapter: AdapterFacts | null,
  model: Described,
): Choice {
  if (asked === 'webgpu') return { first: 'wgsl', cpuCanFollow: false };
  const refusal = cpuRefusal(model);
  const onlyCpu = asked === 'cpu' || adapter === null;
  if (onlyCpu && refusal !== null) throw refusal;
  const first = onlyCpu || (adapter.software && refusal === null) ? 'onnx' : 'wgsl';
  return { first, cpuCanFollow: first === 'wgsl' && refusal === null };
}

/** Why the CPU cannot run a package; null where it can. */
function cpuRefusal(model: Described): Error | null {
  try {
    checkRunnable(model);
    return null;
  } catch (error) {
    if (error instanceof Error && failureName(error) === 'CpuLimit') return error;
    throw error;
  }
}
