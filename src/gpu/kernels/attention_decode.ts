import wgsl from '#shaders/attention_decode.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';
import type { AttentionShape } from './attention.ts';

export interface AttentionDecodeShape extends AttentionShape {
  /** Of the norm of every head (QK-norm); null where the model has none. */
  readonly normEps: number | null;
  /** Whether queries and keys turn by their position. */
  readonly rotary: boolean;
  /** Most slices that the cache is cut into. With several attention_combine has to follow. */
  readonly slices: number;
  /** Where scales begin in a cache of 8 bits, see cacheLayout; 0 or left out for one of elem. */
  readonly scales?: number;
}

export interface AttentionDecodeBuffers {
  readonly params: GPUBuffer;
  readonly qkv: GPUBuffer; // f32 [(H + 2 K) * Dh], as the projection made it
  readonly bias: GPUBuffer; // f32 [(H + 2 K) * Dh]
  readonly weight: GPUBuffer; // f32 [2 Dh] of the norm, queries' first; not read without one
  readonly angles: GPUBuffer | null; // f32 [S, Dh/2, 2], see ropeTable; null where nothing turns
  readonly slopes: GPUBuffer; // f32 [H], see alibiSlopes; zeros for none
  readonly keys: GPUBuffer; // see cacheLayout
  readonly values: GPUBuffer; // see cacheLayout
  readonly y: GPUBuffer; // elem [H, Dh]; with several slices f32 [H, slices, Dh + 4]
}

/**
 * Attention of one token over the cache, including bias, norm and rotation of its query and key
 * and the write of key and value into the cache.
 */
export async function createAttentionDecode(
  gpu: Gpu,
  { heads, kvHeads, headDim, normEps, rotary, slices, scales = 0 }: AttentionDecodeShape,
): Promise<(buffers: AttentionDecodeBuffers) => Step> {
  const columns = headDim / 4;
  const parts = Math.max(1, Math.floor(gpu.tuning.attentionLanes / columns));
  const sharing = heads / kvHeads;
  const teams = Math.ceil(sharing / gpu.tuning.attentionTeam);
  const kernel = await gpu.kernel(
    'attention_decode',
    wgsl,
    {
      H: heads,
      KV_HEADS: kvHeads,
      DH: headDim,
      NORM: normEps === null ? 0 : 1,
      EPS: normEps ?? 0,
      TURN: Number(rotary),
      SCALES: scales,
      SLICES: slices,
      TEAM: Math.ceil(sharing / teams),
      LANES: columns * parts,
    },
    { output: slices === 1 ? 'elem' : 'f32', cache: scales > 0 ? 'int8' : 'elem' },
  );
  const grid = gridOf(kvHeads * teams * slices);
  return ({ params, qkv, bias, weight, angles, slopes, keys, values, y }) =>
    // A binding needs a buffer also where the shader does not read it.
    kernel.bind([params, qkv, bias, weight, angles ?? slopes, slopes, keys, values, y], grid);
}
