import wgsl from '#shaders/embed_q8.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

export interface EmbedQ8Shape {
  readonly width: number; // K
  readonly rows: number; // N, rows of this block of the table
  readonly from: number; // the token of its first row
}

export interface EmbedQ8Buffers {
  readonly tokens: GPUBuffer; // u32 [T]
  readonly table: GPUBuffer; // q8 [N, K]
  readonly x: GPUBuffer; // f32 [T, K]
}

/** x[t] = table[tokens[t]], for the tokens that this block of the table holds. */
export async function createEmbedQ8(
  gpu: Gpu,
  { width, rows, from }: EmbedQ8Shape,
): Promise<(buffers: EmbedQ8Buffers) => Step> {
  const WG = gpu.tuning.workgroup;
  const kernel = await gpu.kernel('embed_q8', wgsl, { K: width, N: rows, FROM: from, WG });
  const grid = gridOf(Math.ceil(width / 4 / WG));
  return ({ tokens, table, x }) => kernel.bind([tokens, table, x], grid);
}
