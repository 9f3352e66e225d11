import { columnsOf, qPlaneBytes, tensorByName } from '../format/layout.ts';
import {
  GROUP_SIZE,
  type Manifest,
  type TensorBlock,
  type TensorInfo,
} from '../format/manifest.ts';
import { Failure } from '../failure.ts';
import type { Gpu } from '../gpu/gpu.ts';
import type { Uploads } from './uploads.ts';

/** Some rows of a quantised matrix in one buffer: their q plane, then their scale plane. */
export interface MatrixPart {
  readonly buffer: GPUBuffer;
  readonly from: number;
  readonly rows: number;
}

/** A quantised matrix [N, K]. Only what is larger than one buffer may be has several parts. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly parts: readonly MatrixPart[];
}

export interface LayerWeights {
  readonly attentionNorm: GPUBuffer; // f32 [D]
  readonly qkv: Matrix; // q4 [(H + 2 K) * Dh, D]
  readonly qkvBias: GPUBuffer; // f32 [(H + 2 K) * Dh], zeros where the model has none
  readonly qkNorm: GPUBuffer; // f32 [2 Dh], the queries' first, zeros where the model has none
  readonly attentionOut: Matrix; // q4 [D, H * Dh]
  readonly mlpNorm: GPUBuffer; // f32 [D]
  readonly gateUp: Matrix; // q4 [2 F, D], the gate first
  readonly down: Matrix; // q4 [D, F]
}

/** The base model on the GPU. */
export interface Weights {
  readonly embed: Matrix; // q8 [V, D]
  readonly layers: readonly LayerWeights[];
  readonly norm: GPUBuffer; // f32 [D]
  readonly head: Matrix; // q8 [V, D], the table itself where they are tied
}

/** Makes the buffers of the base model and plans what is written to them. */
export function planWeights(gpu: Gpu, manifest: Manifest, uploads: Uploads): Weights {
  const tensors = tensorByName(manifest);
  const find = (name: string): TensorInfo => tensorNamed(tensors, name);
  const vector = (name: string): GPUBuffer => planVector(gpu, find(name), uploads);
  const matrix = (name: string): Matrix => planMatrix(gpu, find(name), uploads);
  const { layers, qkvBias, qkNorm, tiedHead, heads, kvHeads, headDim } = manifest.config;
  const none = gpu.storage('no bias', (heads + 2 * kvHeads) * headDim * 4);
  const embed = matrix('embed');
  return {
    embed,
    layers: Array.from({ length: layers }, (_, i) => ({
      attentionNorm: vector(`layers.${i}.attention_norm`),
      qkv: matrix(`layers.${i}.qkv`),
      qkvBias: qkvBias ? vector(`layers.${i}.qkv_bias`) : none,
      qkNorm: qkNorm ? vector(`layers.${i}.qk_norm`) : none,
      attentionOut: matrix(`layers.${i}.attention_out`),
      mlpNorm: vector(`layers.${i}.mlp_norm`),
      gateUp: matrix(`layers.${i}.gate_up`),
      down: matrix(`layers.${i}.down`),
    })),
    norm: vector('norm'),
    head: tiedHead ? embed : matrix('head'),
  };
}

/** @throws Failure BadPackage; `parseManifest` has refused such a package before */
export function tensorNamed(tensors: ReadonlyMap<string, TensorInfo>, name: string): TensorInfo {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new Failure('BadPackage', `tensor ${name} is missing`);
  return tensor;
}

function planVector(gpu: Gpu, tensor: TensorInfo, uploads: Uploads): GPUBuffer {
  const buffer = gpu.storage(tensor.name, (tensor.shape[0] ?? 0) * 4);
  for (const block of tensor.blocks) {
    const [from, to] = block.rows;
    uploads.plan(block, (bytes) => {
      gpu.device.queue.writeBuffer(buffer, from * 4, bytes.subarray(0, (to - from) * 4));
    });
  }
  return buffer;
}

function planMatrix(gpu: Gpu, tensor: TensorInfo, uploads: Uploads): Matrix {
  const columns = columnsOf(tensor);
  const rowBytes = qPlaneBytes(tensor.dtype, 1, columns);
  const scaleBytes = (2 * columns) / GROUP_SIZE;
  const groups = groupBlocks(
    tensor.blocks,
    rowBytes + scaleBytes,
    scaleBytes,
    gpu.tuning.weightBytes,
  );
  const parts = groups.map((blocks): MatrixPart => {
    const from = blocks[0]?.rows[0] ?? 0;
    const rows = (blocks.at(-1)?.rows[1] ?? 0) - from;
    const buffer = gpu.storage(tensor.name, rows * (rowBytes + scaleBytes));
    for (const { rows: span, ...block } of blocks) {
      const [first, count] = [span[0] - from, span[1] - span[0]];
      uploads.plan(block, (bytes) => {
        const q = bytes.subarray(0, count * rowBytes);
        // An odd number of scales ends a part; the zeros that pad the block make it whole words.
        const scales = bytes.subarray(q.length, q.length + Math.ceil((count * scaleBytes) / 4) * 4);
        gpu.device.queue.writeBuffer(buffer, first * rowBytes, q);
        gpu.device.queue.writeBuffer(buffer, rows * rowBytes + first * scaleBytes, scales);
      });
    }
    return { buffer, from, rows };
  });
  return { rows: tensor.shape[0] ?? 0, columns, parts };
}

/**
 * Neighbouring blocks that share a buffer: as many as fit, and only after an even number of
 * scales, because a buffer is written in words of 4 bytes.
 */
export function groupBlocks(
  blocks: readonly TensorBlock[],
  bytesPerRow: number,
  scaleBytes: number,
  limit: number,
): TensorBlock[][] {
  const groups: TensorBlock[][] = [];
  let current: TensorBlock[] = [];
  for (const block of blocks) {
    const from = current[0]?.rows[0] ?? 0;
    const fits = (block.rows[1] - from) * bytesPerRow <= limit;
    const even = ((block.rows[0] - from) * scaleBytes) % 4 === 0;
    if (current.length === 0 || !fits || !even) groups.push((current = []));
    current.push(block);
  }
  return groups;
}
