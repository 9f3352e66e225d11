import wgsl from '#shaders/rms_norm.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

export interface RmsNormShape {
  readonly width: number; // K
  readonly eps: number;
}

export interface RmsNormBuffers {
  readonly params: GPUBuffer;
  readonly x: GPUBuffer; // f32 [*, K], read from row `first` of the params on
  readonly weight: GPUBuffer; // f32 [K]
  readonly y: GPUBuffer; // elem [T, K]
}

/** y = x / sqrt(mean(x^2) + eps) * weight. */
export async function createRmsNorm(
  gpu: Gpu,
  { width, eps }: RmsNormShape,
): Promise<(buffers: RmsNormBuffers) => Step> {
  const WG = gpu.tuning.workgroup;
  const kernel = await gpu.kernel('rms_norm', wgsl, { K: width, EPS: eps, WG });
  return ({ params, x, weight, y }) => kernel.bind([params, x, weight, y], gridOf(1));
}
