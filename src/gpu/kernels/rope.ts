import wgsl from '#shaders/rope.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';

export interface RopeShape {
  readonly heads: number; // H
  readonly kvHeads: number; // K
  readonly headDim: number; // Dh
  /** Of the norm of every head (QK-norm); null where the model has none. */
  readonly normEps: number | null;
}

export interface RopeBuffers {
  readonly params: GPUBuffer;
  readonly angles: GPUBuffer; // f32 [S, Dh/2, 2], see ropeTable
  readonly bias: GPUBuffer; // f32 [(H + 2 K) * Dh]
  readonly weight: GPUBuffer; // f32 [2 Dh] of the norm, queries' first; not read without one
  readonly x: GPUBuffer; // f32 [T, (H + 2 K) * Dh]
}

/** Bias, norm and rotation of every query and key head; values stay as they are. */
export async function createRope(
  gpu: Gpu,
  { heads, kvHeads, headDim, normEps }: RopeShape,
): Promise<(buffers: RopeBuffers) => Step> {
  const kernel = await gpu.kernel('rope', wgsl, {
    H: heads,
    DH: headDim,
    ROW: (heads + 2 * kvHeads) * headDim,
    NORM: normEps === null ? 0 : 1,
    EPS: normEps ?? 0,
    WG: Math.min(gpu.tuning.workgroup, headDim / 2),
  });
  const grid = gridOf(heads + kvHeads);
  return ({ params, angles, bias, weight, x }) =>
    kernel.bind([params, angles, bias, weight, x], grid);
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
