import wgsl from '#shaders/attention_combine.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

export interface AttentionCombineShape {
  readonly heads: number; // H
  readonly headDim: number; // Dh, a multiple of 4
  readonly slices: number;
}

export interface AttentionCombineBuffers {
  readonly params: GPUBuffer;
  readonly slices: GPUBuffer; // f32 [H, slices, Dh + 4]
  readonly y: GPUBuffer; // elem [H, Dh]
}

/** Adds up the slices of attention_decode. */
export async function createAttentionCombine(
  gpu: Gpu,
  { heads, headDim, slices }: AttentionCombineShape,
): Promise<(buffers: AttentionCombineBuffers) => Step> {
  const WG = gpu.tuning.workgroup;
  const constants = { H: heads, DH: headDim, SLICES: slices, WG };
  const kernel = await gpu.kernel('attention_combine', wgsl, constants);
  const grid = gridOf(Math.ceil((heads * headDim) / 4 / WG));
  return ({ params, slices, y }) => kernel.bind([params, slices, y], grid);
}
