import wgsl from '#shaders/adapter_up.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';
import { adapterConstants, type AdapterRows } from './matvec_q4.ts';

export interface AdapterUpShape extends AdapterRows {
  readonly outputs: number; // floats from one token to the next in y
}

export interface AdapterUpBuffers {
  readonly b: GPUBuffer; // factor4 [rows, P]
  readonly z: GPUBuffer; // f32 [T, linears, P]
  readonly y: GPUBuffer; // f32 [T, outputs]
}

/** y += B z: brings the experts' middles back to the width of their linears. */
export async function createAdapterUp(
  gpu: Gpu,
  { outputs, ...adapter }: AdapterUpShape,
): Promise<(buffers: AdapterUpBuffers) => Step> {
  const WG = gpu.tuning.workgroup;
  const constants = { ...adapterConstants(adapter), Y: outputs, WG };
  const kernel = await gpu.kernel('adapter_up', wgsl, constants);
  const grid = gridOf(Math.ceil(adapter.rows / 4 / WG));
  return ({ b, z, y }) => kernel.bind([b, z, y], grid);
}
