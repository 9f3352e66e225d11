import wgsl from '#shaders/attention.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

/** Tokens of a workgroup, as the shader has it. */
const TEAM = 4;

export interface AttentionShape {
  readonly heads: number; // H
  readonly kvHeads: number; // K, H is a multiple of it
  readonly headDim: number; // Dh, a multiple of 4
  /** Where scales begin in a cache of 8 bits, see cacheLayout; 0 or left out for one of elem. */
  readonly scales?: number;
}

export interface AttentionBuffers {
  readonly params: GPUBuffer;
  readonly qkv: GPUBuffer; // f32 [T, (H + 2 K) * Dh], the queries are read
  readonly keys: GPUBuffer; // see cacheLayout
  readonly values: GPUBuffer; // see cacheLayout
  readonly slopes: GPUBuffer; // f32 [H], see alibiSlopes; zeros for none
  readonly y: GPUBuffer; // elem [T, H, Dh]
}

/** Causal attention of T queries over the cache, which already holds their own keys and values. */
export async function createAttention(
  gpu: Gpu,
  { heads, kvHeads, headDim, scales = 0 }: AttentionShape,
): Promise<(buffers: AttentionBuffers) => Step> {
  const columns = headDim / 4;
  const parts = Math.max(1, Math.floor(gpu.tuning.attentionLanes / columns));
  const kernel = await gpu.kernel(
    'attention',
    wgsl,
    {
      H: heads,
      KV_HEADS: kvHeads,
      DH: headDim,
      ROW: (heads + 2 * kvHeads) * headDim,
      SCALES: scales,
      LANES: columns * parts,
    },
    { cache: scales > 0 ? 'int8' : 'elem' },
  );
  const grid = gridOf(heads, TEAM);
  return ({ params, qkv, keys, values, slopes, y }) =>
    kernel.bind([params, qkv, keys, values, slopes, y], grid);
}

/**
 * What every head takes from a score for each position of distance (ALiBi, Press et al. 2021):
 * 2^(-8k/n), k = 1..n, for a power of two n; for other counts those of the largest power below,
 * then every second one of twice that power.
 */
export function alibiSlopes(heads: number): Float32Array<ArrayBuffer> {
  const power = 2 ** (31 - Math.clz32(heads));
  return Float32Array.from({ length: heads }, (_, h) =>
    h < power ? 2 ** ((-8 * (h + 1)) / power) : 2 ** ((-4 * (2 * (h - power) + 1)) / power),
  );
}
