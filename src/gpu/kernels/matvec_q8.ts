import wgsl from '#shaders/matvec_q8.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';
import { lanesFor } from '../tuning.ts';

/** A row block of an 8-bit matrix, and where its product goes. */
export interface MatvecQ8Shape {
  readonly columns: number; // K
  readonly rows: number; // N, rows of this block
  readonly from: number; // the first of them in the matrix
  readonly outputs: number; // rows of the matrix
}

export interface MatvecQ8Buffers {
  readonly weights: GPUBuffer; // q8 [N, K]
  readonly x: GPUBuffer; // elem [T, K]
  readonly y: GPUBuffer; // f32 [T, outputs]
}

/** y[t, from + n] = W[n] . x[t]: the logits of the head. */
export async function createMatvecQ8(
  gpu: Gpu,
  { columns, rows, from, outputs }: MatvecQ8Shape,
): Promise<(buffers: MatvecQ8Buffers) => Step> {
  const LANES = lanesFor(gpu.tuning.rowLanes, columns / 32);
  const WG = gpu.tuning.workgroup;
  const kernel = await gpu.kernel('matvec_q8', wgsl, {
    K: columns,
    N: rows,
    FROM: from,
    Y: outputs,
    LANES,
    WG,
  });
  const grid = gridOf(Math.ceil(rows / 4 / (WG / LANES)));
  return ({ weights, x, y }) => kernel.bind([weights, x, y], grid);
}
