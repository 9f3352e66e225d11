import wgsl from '#shaders/adapter_route.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

export interface AdapterRouteShape {
  readonly columns: number; // K
  readonly linears: number; // S, the linears that share this input
  readonly experts: number; // E, the universal expert included
  readonly scale: number; // alpha / r
}

export interface AdapterRouteBuffers {
  readonly router: GPUBuffer; // f16 [S, E - 1, K]
  readonly x: GPUBuffer; // elem [T, K]
  readonly gates: GPUBuffer; // f32 [T, S, E]
}

/** gates = scale * (1, softmax(router x)): what each expert counts, for every token. */
export async function createAdapterRoute(
  gpu: Gpu,
  { columns, linears, experts, scale }: AdapterRouteShape,
): Promise<(buffers: AdapterRouteBuffers) => Step> {
  const kernel = await gpu.kernel('adapter_route', wgsl, {
    K: columns,
    LINEARS: linears,
    EXPERTS: experts,
    SCALE: scale,
    WG: gpu.tuning.workgroup,
  });
  const grid = gridOf(linears);
  return ({ router, x, gates }) => kernel.bind([router, x, gates], grid);
}
