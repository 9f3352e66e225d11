import wgsl from '#shaders/rope.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

export interface RopeShape {
  readonly heads: number; // query and key heads together: the first heads of a row
  readonly headDim: number; // Dh
  readonly row: number; // floats from one token to the next
}

export interface RopeBuffers {
  readonly params: GPUBuffer;
  readonly angles: GPUBuffer; // f32 [S, Dh/2, 2], see ropeTable
  readonly x: GPUBuffer; // f32 [T, row]
}

/** Turns the pairs (i, i + Dh/2) of every query and key head by the angles of their position. */
export async function createRope(
  gpu: Gpu,
  { heads, headDim, row }: RopeShape,
): Promise<(buffers: RopeBuffers) => Step> {
  const WG = gpu.tuning.workgroup;
  const kernel = await gpu.kernel('rope', wgsl, { HEADS: heads, DH: headDim, ROW: row, WG });
  const grid = gridOf(Math.ceil((heads * headDim) / 2 / WG));
  return ({ params, angles, x }) => kernel.bind([params, angles, x], grid);
}

/** (cos, sin) of position * theta^(-2i/Dh), [capacity, Dh/2, 2], made in f64 (Su et al. 2021). */
export function ropeTable(
  capacity: number,
  headDim: number,
  theta: number,
): Float32Array<ArrayBuffer> {
  const pairs = headDim / 2;
  const table = new Float32Array(capacity * headDim);
  for (let i = 0; i < pairs; i++) {
    const frequency = theta ** ((-2 * i) / headDim);
    for (let position = 0; position < capacity; position++) {
      const at = 2 * (position * pairs + i);
      table[at] = Math.cos(position * frequency);
      table[at + 1] = Math.sin(position * frequency);
    }
  }
  return table;
}
