import { columnsOf, qPlaneBytes, tensorByName } from '../../format/layout.ts';
import { GROUP_SIZE, type Manifest } from '../../format/manifest.ts';
import { floatToHalf } from '../../format/dtype.ts';
import type { GpuDevice } from '../../gpu/device.ts';
import { Gpu, type Step } from '../../gpu/gpu.ts';
import { createMatmulQ4 } from '../../gpu/kernels/matmul_q4.ts';
import { createMatvecQ4 } from '../../gpu/kernels/matvec_q4.ts';
import { MATMUL_PAIRS, matmulInput, type Measured } from '../engine.ts';
import { fetchBytes } from './package.ts';

/** Runs the sixteen products with inputs of so many tokens. */
export type Matmuls = (tokens: number, repetitions: number) => Promise<Measured>;

const MOST_TOKENS = 64;

/** Our kernels for 4-bit matrices by themselves, chosen and cut as the model does it. */
export async function createMatmuls(owner: GpuDevice, manifest: Manifest): Promise<Matmuls> {
  const gpu = new Gpu(owner);
  const { width, mlpWidth } = manifest.config;
  const params = gpu.params('params');
  const narrow = gpu.storage('narrow', MOST_TOKENS * width * gpu.elemBytes);
  const wide = gpu.storage('wide', MOST_TOKENS * mlpWidth * gpu.elemBytes);
  const up = gpu.storage('up', MOST_TOKENS * mlpWidth * 4);
  const down = gpu.storage('down', MOST_TOKENS * width * 4);
  const staging = gpu.staging('product', MOST_TOKENS * width * 4);
  const steps = { one: [] as Step[], some: [] as Step[], many: [] as Step[] };
  for (let i = 0; i < MATMUL_PAIRS; i++) {
    const sides = [
      { tensor: `layers.${i}.gate_up`, rows: mlpWidth, columns: width, x: narrow, y: up },
      { tensor: `layers.${i}.down`, rows: width, columns: mlpWidth, x: wide, y: down },
    ];
    for (const { tensor, rows, columns, x, y } of sides) {
      const weights = await upload(gpu, manifest, tensor, rows);
      const shape = { columns, rows, from: 0, outputs: rows, add: false };
      const bound = { params, weights, x, y };
      steps.one.push((await createMatvecQ4(gpu, shape))(bound));
      steps.some.push((await createMatvecQ4(gpu, shape, { several: true }))(bound));
      steps.many.push((await createMatmulQ4(gpu, shape))(bound));
    }
  }
  return async (tokens, repetitions) => {
    const { queue } = gpu.device;
    // Chunks are all the same: what is left over of them would want params of its own.
    const chunk = Math.min(gpu.tuning.chunk, tokens);
    if (tokens % chunk > 0) throw new RangeError(`${tokens} tokens in chunks of ${chunk}`);
    queue.writeBuffer(params, 0, Uint32Array.of(chunk, 0, 0, 0));
    queue.writeBuffer(narrow, 0, elements(gpu, matmulInput(tokens, width)));
    queue.writeBuffer(wide, 0, elements(gpu, matmulInput(tokens, mlpWidth)));
    const few = tokens === 1 ? steps.one : steps.some;
    const chosen = tokens >= gpu.tuning.matmulFrom ? steps.many : few;
    // Chunks take the same rows: what comes out is that of one.
    const product = new Float32Array(chunk * width);
    const ms: number[] = [];
    for (let i = 0; i < repetitions; i++) {
      const start = performance.now();
      const encoder = gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (let at = 0; at < tokens; at += chunk) gpu.encode(pass, chosen, chunk);
      pass.end();
      encoder.copyBufferToBuffer(down, 0, staging, 0, product.byteLength);
      queue.submit([encoder.finish()]);
      await gpu.read(staging, product);
      ms.push(performance.now() - start);
    }
    return { ms, output: [...product] };
  };
}

function elements(gpu: Gpu, values: Float32Array<ArrayBuffer>) {
  return gpu.variant === 'f16' ? Uint16Array.from(values, floatToHalf) : values;
}

/** The first rows of a tensor that lies in one block: their q plane, then their scale plane. */
async function upload(
  gpu: Gpu,
  manifest: Manifest,
  name: string,
  rows: number,
): Promise<GPUBuffer> {
  const tensor = tensorByName(manifest).get(name);
  const [block, more] = tensor?.blocks ?? [];
  if (tensor === undefined || block === undefined || more !== undefined) {
    throw new Error(`${name} does not lie in one block: choose a smaller shape`);
  }
  const columns = columnsOf(tensor);
  const file = await fetchBytes(block.file);
  const q = qPlaneBytes('q4', rows, columns);
  const scaleBytes = (2 * rows * columns) / GROUP_SIZE;
  const scalesAt = block.offset + qPlaneBytes('q4', block.rows[1], columns);
  const buffer = gpu.storage(name, q + scaleBytes);
  gpu.device.queue.writeBuffer(buffer, 0, file, block.offset, q);
  gpu.device.queue.writeBuffer(buffer, q, file, scalesAt, scaleBytes);
  return buffer;
}
