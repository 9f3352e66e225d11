import wgsl from '#shaders/matvec_q4.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';
import { lanesFor } from '../tuning.ts';

/** A row block of a 4-bit matrix, and where its product goes. */
export interface MatrixQ4Shape {
  readonly columns: number; // K
  readonly rows: number; // N, rows of this block
  readonly from: number; // the first of them in the matrix
  readonly outputs: number; // rows of the matrix
  readonly add: boolean; // y += W x instead of y = W x
}

export interface MatvecQ4Buffers {
  readonly weights: GPUBuffer; // q4 [N, K]
  readonly x: GPUBuffer; // elem [T, K]
  readonly y: GPUBuffer; // f32 [T, outputs]
}

/** y[t, from + n] (+)= W[n] . x[t], one token at a time: for decode and for short passes. */
export async function createMatvecQ4(
  gpu: Gpu,
  { columns, rows, from, outputs, add }: MatrixQ4Shape,
): Promise<(buffers: MatvecQ4Buffers) => Step> {
  const LANES = lanesFor(gpu.tuning, columns / 32);
  const WG = gpu.tuning.workgroup;
  const kernel = await gpu.kernel('matvec_q4', wgsl, {
    K: columns,
    N: rows,
    FROM: from,
    Y: outputs,
    ADD: Number(add),
    LANES,
    WG,
  });
  const grid = gridOf(Math.ceil(rows / 4 / (WG / LANES)));
  return ({ weights, x, y }) => kernel.bind([weights, x, y], grid);
}
