import wgsl from '#shaders/swiglu.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

export interface SwigluBuffers {
  readonly gateUp: GPUBuffer; // f32 [T, 2 F], the gate first
  readonly y: GPUBuffer; // elem [T, F]
}

/** y = silu(gate) * up, with `mlpWidth` (F) values a token. */
export async function createSwiglu(
  gpu: Gpu,
  mlpWidth: number,
): Promise<(buffers: SwigluBuffers) => Step> {
  const WG = gpu.tuning.workgroup;
  const kernel = await gpu.kernel('swiglu', wgsl, { F: mlpWidth, WG });
  const grid = gridOf(Math.ceil(mlpWidth / 4 / WG));
  return ({ gateUp, y }) => kernel.bind([gateUp, y], grid);
}
