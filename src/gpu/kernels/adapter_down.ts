import wgsl from '#shaders/adapter_down.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';
import { lanesFor } from '../tuning.ts';

export interface AdapterDownShape {
  readonly columns: number; // K
  readonly linears: number; // S, the linears that share this input
  readonly experts: number; // E, the universal expert included
  readonly rank: number; // R
  readonly padded: number; // P, floats from one linear to the next in z, at least E * R
  readonly routed: boolean; // gates per token instead of per pass
}

export interface AdapterDownBuffers {
  readonly a: GPUBuffer; // elem [S * E * R, K]
  readonly x: GPUBuffer; // elem [T, K]
  readonly gates: GPUBuffer | GPUBufferBinding; // f32 [S, E], routed: [T, S, E]; alpha / r folded in
  readonly z: GPUBuffer; // f32 [T, S, P]
}

/** z = gates * (A x): the low-rank middle of every expert, gated. */
export async function createAdapterDown(
  gpu: Gpu,
  { columns, linears, experts, rank, padded, routed }: AdapterDownShape,
): Promise<(buffers: AdapterDownBuffers) => Step> {
  const LANES = lanesFor(gpu.tuning, columns / 4);
  const WG = gpu.tuning.workgroup;
  const kernel = await gpu.kernel('adapter_down', wgsl, {
    K: columns,
    LINEARS: linears,
    EXPERTS: experts,
    RANK: rank,
    P: padded,
    GATE_STRIDE: routed ? linears * experts : 0,
    LANES,
    WG,
  });
  const grid = gridOf(Math.ceil((linears * experts * rank) / 4 / (WG / LANES)));
  return ({ a, x, gates, z }) => kernel.bind([a, x, gates, z], grid);
}
