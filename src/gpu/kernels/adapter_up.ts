import wgsl from '#shaders/adapter_up.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

export interface AdapterUpShape {
  readonly padded: number; // P, columns, a multiple of 4
  readonly rows: number; // N, rows of b
  readonly linearRows: number; // rows of one linear; a multiple of 4 where b holds several
  readonly linears: number; // S, linears in z
  readonly first: number; // the first of b's linears in z
  readonly from: number; // the first of b's rows in y
  readonly outputs: number; // floats from one token to the next in y
}

export interface AdapterUpBuffers {
  readonly b: GPUBuffer; // elem [N, P]
  readonly z: GPUBuffer; // f32 [T, S, P]
  readonly y: GPUBuffer; // f32 [T, outputs]
}

/** y += B z: brings the experts' middles back to the width of their linear. */
export async function createAdapterUp(
  gpu: Gpu,
  { padded, rows, linearRows, linears, first, from, outputs }: AdapterUpShape,
): Promise<(buffers: AdapterUpBuffers) => Step> {
  const WG = gpu.tuning.workgroup;
  const kernel = await gpu.kernel('adapter_up', wgsl, {
    P: padded,
    N: rows,
    ROWS: linearRows,
    LINEARS: linears,
    SEGMENT: first,
    FROM: from,
    Y: outputs,
    WG,
  });
  const grid = gridOf(Math.ceil(rows / 4 / WG));
  return ({ b, z, y }) => kernel.bind([b, z, y], grid);
}
