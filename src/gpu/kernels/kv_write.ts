import wgsl from '#shaders/kv_write.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

export interface KvWriteShape {
  readonly queries: number; // width of the queries, H * Dh
  readonly width: number; // width of keys and of values, K * Dh
  readonly headDim: number; // Dh
  /** Where scales begin in a cache of 8 bits, see cacheLayout; 0 or left out for one of elem. */
  readonly scales?: number;
}

export interface KvWriteBuffers {
  readonly params: GPUBuffer;
  readonly qkv: GPUBuffer; // f32 [T, queries + 2 width]
  readonly bias: GPUBuffer; // f32 [queries + 2 width], the values' is read
  readonly keys: GPUBuffer; // see cacheLayout
  readonly values: GPUBuffer; // see cacheLayout
}

/** Copies the keys, and the values plus their bias, of a pass to their positions in the cache. */
export async function createKvWrite(
  gpu: Gpu,
  { queries, width, headDim, scales = 0 }: KvWriteShape,
): Promise<(buffers: KvWriteBuffers) => Step> {
  const WG = gpu.tuning.workgroup;
  const kernel = await gpu.kernel(
    'kv_write',
    wgsl,
    { Q: queries, KV: width, DH: headDim, SCALES: scales, WG },
    { cache: scales > 0 ? 'int8' : 'elem' },
  );
  const grid = gridOf(Math.ceil(width / 4 / WG));
  return ({ params, qkv, bias, keys, values }) =>
    kernel.bind([params, qkv, bias, keys, values], grid);
}
