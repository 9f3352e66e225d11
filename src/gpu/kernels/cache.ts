import type { Gpu } from '../gpu.ts';

/** A KV cache of one layer: S positions of K heads. */
export interface CacheShape {
  readonly capacity: number; // S
  readonly kvHeads: number; // K
  readonly headDim: number; // Dh, a multiple of 4
}

/** Where keys, or values, of one layer stand in their buffer. */
export interface CacheLayout {
  readonly bytes: number;
  /** The word where scales begin, f32 [S, K]; 0 where values are elem and have none. */
  readonly scales: number;
}

/** elem [S, K, Dh]; in 8 bits bytes [S, K, Dh], then one f32 for every position and head. */
export function cacheLayout(gpu: Gpu, { capacity, kvHeads, headDim }: CacheShape): CacheLayout {
  const heads = capacity * kvHeads;
  if (gpu.cache === 'elem') return { bytes: heads * headDim * gpu.elemBytes, scales: 0 };
  return { bytes: heads * (headDim + 4), scales: (heads * headDim) / 4 };
}
