import wgsl from '#shaders/subgroup_probe.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

/** Invocations of the probe: the workgroup of the kernels that use subgroups. */
export const PROBE_LANES = 64;

export interface SubgroupProbeBuffers {
  readonly x: GPUBuffer; // f32 [lanes]
  readonly y: GPUBuffer; // u32 [lanes, 4]
}

/** Measures subgroups by using them. Only for a device that has them. */
export async function createSubgroupProbe(
  gpu: Gpu,
): Promise<(buffers: SubgroupProbeBuffers) => Step> {
  const constants = { WG: PROBE_LANES };
  const kernel = await gpu.kernel('subgroup_probe', wgsl, constants, { subgroups: true });
  return ({ x, y }) => kernel.bind([x, y], gridOf(1));
}

/** Numbers whose sums are exact in every order, and differ for different sets of lanes. */
export function probeNumbers(): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: PROBE_LANES }, (_, lane) => lane * lane + 1);
}

/**
 * How many neighbouring lanes can shuffle, by what the probe wrote: its subgroups' size where that
 * is one power of two, lanes stand in their order and every sum is right; else 1.
 */
export function subgroupOf(words: Uint32Array, x: Float32Array): number {
  const [size = 0] = words;
  const shared = Math.min(size, PROBE_LANES);
  if (size < 1 || (size & (size - 1)) !== 0) return 1;
  const sums = new Float32Array(words.buffer, words.byteOffset, words.length);
  for (let lane = 0; lane < PROBE_LANES; lane++) {
    const first = lane - (lane % shared);
    const sum = x.subarray(first, first + shared).reduce((all, value) => all + value, 0);
    const right =
      words[lane * 4] === size &&
      words[lane * 4 + 1] === lane % shared &&
      sums[lane * 4 + 2] === sum;
    if (!right) return 1;
  }
  return shared;
}
