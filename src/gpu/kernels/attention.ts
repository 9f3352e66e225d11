import wgsl from '#shaders/attention.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

export interface AttentionShape {
  readonly heads: number; // H
  readonly kvHeads: number; // K, H is a multiple of it
  readonly headDim: number; // Dh, a multiple of 4
}

export interface AttentionBuffers {
  readonly params: GPUBuffer;
  readonly qkv: GPUBuffer; // f32 [T, (H + 2 K) * Dh], the queries are read
  readonly keys: GPUBuffer; // elem [S, K, Dh]
  readonly values: GPUBuffer; // elem [S, K, Dh]
  readonly y: GPUBuffer; // elem [T, H, Dh]
}

/** Causal attention of T queries over the cache, which already holds their own keys and values. */
export async function createAttention(
  gpu: Gpu,
  { heads, kvHeads, headDim }: AttentionShape,
): Promise<(buffers: AttentionBuffers) => Step> {
  const columns = headDim / 4;
  const parts = Math.max(1, Math.floor(gpu.tuning.attentionLanes / columns));
  const kernel = await gpu.kernel('attention', wgsl, {
    H: heads,
    KV_HEADS: kvHeads,
    DH: headDim,
    ROW: (heads + 2 * kvHeads) * headDim,
    LANES: columns * parts,
  });
  const grid = gridOf(heads);
  return ({ params, qkv, keys, values, y }) => kernel.bind([params, qkv, keys, values, y], grid);
}
