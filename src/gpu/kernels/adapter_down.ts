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
  readonly weighed?: boolean; // x times the weight of a norm, for a matvec_q4 with that norm
}

export interface AdapterDownBuffers {
  readonly a: GPUBuffer; // factor4 [S * E * R, K]
  readonly x: GPUBuffer; // elem [T, K]; weighed: f32
  readonly weight?: GPUBuffer; // f32 [K] of the norm
  readonly gates: GPUBuffer | GPUBufferBinding; // f32 [S, E], routed: [T, S, E]; alpha / r folded in
  readonly units: GPUBuffer; // f32 [S * E * R], of A's rows times B's columns
  readonly z: GPUBuffer; // f32 [T, S, P]
}

/** z = gates * units * (A x): the low-rank middle of every expert, gated. */
export async function createAdapterDown(
  gpu: Gpu,
  { columns, linears, experts, rank, padded, routed, weighed = false }: AdapterDownShape,
): Promise<(buffers: AdapterDownBuffers) => Step> {
  const { lanes, workgroup } = gpu.tuning.adapterDown;
  const LANES = lanesFor(lanes, columns / 4);
  const teams = Math.ceil((linears * experts * rank) / 4);
  const WG = fitting(workgroup, teams * LANES);
  const kernel = await gpu.kernel(
    'adapter_down',
    wgsl,
    {
      K: columns,
      LINEARS: linears,
      EXPERTS: experts,
      RANK: rank,
      P: padded,
      GATE_STRIDE: routed ? linears * experts : 0,
      WEIGH: Number(weighed),
      LANES,
      WG,
    },
    { input: weighed ? 'f32' : 'elem' },
  );
  const grid = gridOf(Math.ceil(teams / (WG / LANES)));
  // A binding needs a buffer also where the shader does not read it.
  return ({ a, x, weight = a, gates, units, z }) =>
    kernel.bind([a, x, weight, gates, units, z], grid);
}

/** The smallest power of two that holds all lanes, at most `most`: one without rows computes all the same. */
function fitting(most: number, lanes: number): number {
  let size = 1;
  while (size < lanes && size < most) size *= 2;
  return size;
}
