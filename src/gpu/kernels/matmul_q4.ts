import wgsl from '#shaders/matmul_q4.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';
import type { MatrixQ4Shape } from './matvec_q4.ts';

/** The tile of a workgroup, as the shader has it. */
const tileRows = 64;
const tileTokens = 32;

export interface MatmulQ4Buffers {
  readonly params: GPUBuffer;
  readonly weights: GPUBuffer; // q4 [N, K]
  readonly x: GPUBuffer; // elem [T, K]
  readonly y: GPUBuffer; // f32 [T, outputs]
}

/** y[t, from + n] (+)= W[n] . x[t], in tiles of 64 rows by 32 tokens: for prefill on a GPU. */
export async function createMatmulQ4(
  gpu: Gpu,
  { columns, rows, from, outputs, add }: MatrixQ4Shape,
): Promise<(buffers: MatmulQ4Buffers) => Step> {
  const kernel = await gpu.kernel('matmul_q4', wgsl, {
    K: columns,
    N: rows,
    FROM: from,
    Y: outputs,
    ADD: Number(add),
  });
  const grid = gridOf(Math.ceil(rows / tileRows), tileTokens);
  return ({ params, weights, x, y }) => kernel.bind([params, weights, x, y], grid);
}
