import { requestGpu } from '../gpu/device.ts';
import { Gpu } from '../gpu/gpu.ts';
import { createMatvecQ8 } from '../gpu/kernels/matvec_q8.ts';
import { failureName } from '../failure.ts';
import type { DeviceCheck } from './api.ts';

/** A product of an 8-bit matrix and a vector, as every token needs many: rows N, columns K. */
const ROWS = 512;
const COLUMNS = 1024;
/** 2^-7 in f16: the scale of every group, exact. */
const HALF_SCALE = 0x2000;
const SCALE = 2 ** -7;
const GROUP = 32;
/** The largest buffer that WebGPU promises. */
const BUFFER_BYTES = 128 << 20;

/**
 * Computes on the GPU, on a device of its own, what the CPU can compute too, and compares.
 * @param bytes asks for so much memory as well; null asks for none
 * @throws Failure NoWebGpu, DeviceLost
 */
export async function checkDevice(
  gpu: GPU | undefined,
  bytes: number | null,
): Promise<DeviceCheck> {
  const owner = await requestGpu(gpu, { variant: 'f32' });
  const device = new Gpu(owner);
  try {
    const started = performance.now();
    const { difference, tolerance } = await compare(device);
    const milliseconds = performance.now() - started;
    const memory = bytes === null ? null : { bytes, granted: await grants(device, bytes) };
    return { adapter: owner.adapterName, milliseconds, difference, tolerance, memory };
  } finally {
    device.dispose();
    owner.device.destroy();
  }
}

async function compare(gpu: Gpu): Promise<{ difference: number; tolerance: number }> {
  const q = Uint8Array.from({ length: ROWS * COLUMNS }, (_, i) => (i * 37 + (i >> 7) * 11) & 0xff);
  const x = Float32Array.from({ length: COLUMNS }, (_, k) => Math.fround(Math.sin(k + 1)));
  const weights = new Uint8Array(q.length + (q.length / GROUP) * 2);
  weights.set(q);
  new Uint16Array(weights.buffer, q.length).fill(HALF_SCALE);
  const buffers = {
    weights: gpu.storage('check weights', weights.length),
    x: gpu.storage('check x', x.byteLength),
    y: gpu.storage('check y', ROWS * 4),
  };
  const staging = gpu.staging('check result', ROWS * 4);
  const shape = { columns: COLUMNS, rows: ROWS, from: 0, outputs: ROWS };
  const step = (await createMatvecQ8(gpu, shape))(buffers);
  const { queue } = gpu.device;
  queue.writeBuffer(buffers.weights, 0, weights);
  queue.writeBuffer(buffers.x, 0, x);
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  gpu.encode(pass, [step], 1);
  pass.end();
  encoder.copyBufferToBuffer(buffers.y, 0, staging, 0, ROWS * 4);
  queue.submit([encoder.finish()]);
  const y = new Float32Array(ROWS);
  await gpu.read(staging, y);
  return differenceFrom(y, q, x);
}

/** Against the sum in double precision; K roundings of f32 may each lose half a unit of the terms. */
function differenceFrom(
  y: Float32Array,
  q: Uint8Array,
  x: Float32Array,
): { difference: number; tolerance: number } {
  let difference = 0;
  let tolerance = 0;
  for (let n = 0; n < ROWS; n += 1) {
    let sum = 0;
    let size = 0;
    for (let k = 0; k < COLUMNS; k += 1) {
      const term = ((q[n * COLUMNS + k] ?? 0) - 128) * SCALE * (x[k] ?? 0);
      sum += term;
      size += SCALE * 256 * Math.abs(x[k] ?? 0);
    }
    const found = Math.abs((y[n] ?? NaN) - sum);
    // NaN compares as false: a missing number is the largest difference there is.
    if (!(found <= difference)) difference = Number.isNaN(found) ? Infinity : found;
    tolerance = Math.max(tolerance, size * 2 ** -20);
  }
  return { difference, tolerance };
}

/** Whether the GPU gives so much memory at once; all of it is given back. */
async function grants(gpu: Gpu, bytes: number): Promise<boolean> {
  try {
    await gpu.withinMemory('a model of this size', async () => {
      for (let left = bytes; left > 0; left -= BUFFER_BYTES) {
        gpu.storage('check memory', Math.min(left, BUFFER_BYTES));
      }
      await gpu.idle();
    });
    return true;
  } catch (error) {
    if (failureName(error) === 'DeviceLimit') return false;
    throw error;
  }
}
