import fmaWgsl from './bench-fma.wgsl?raw';
import readWgsl from './bench-read.wgsl?raw';
import type { GpuDevice } from '../gpu/device.ts';
import { Gpu, gridOf, type Step } from '../gpu/gpu.ts';

/** What this machine can do at most, measured by kernels that do nothing else. */
export interface Peaks {
  readonly readGBs: number; // 10^9 bytes a second, from memory
  readonly f32Gflops: number; // 10^9 operations a second; a multiply-add is two
  readonly dispatchUs: number; // what a dispatch that does nothing adds to a pass
}

const READ_BYTES = 128 << 20; // WebGPU's default limit of a binding
const FMA_OPERATIONS = 64;
const TRIES = 5;

export async function measurePeaks(owner: GpuDevice): Promise<Peaks> {
  const gpu = new Gpu(owner);
  try {
    return {
      readGBs: await readSpeed(gpu),
      f32Gflops: await fmaSpeed(gpu),
      dispatchUs: await dispatchCost(gpu),
    };
  } finally {
    gpu.dispose();
  }
}

async function readSpeed(gpu: Gpu): Promise<number> {
  const x = gpu.storage('read', READ_BYTES);
  let best = 0;
  for (const invocations of [1 << 12, 1 << 16]) {
    const sums = gpu.storage('sums', invocations * 4);
    for (const NEIGHBOURS of [0, 1]) {
      const constants = { N: READ_BYTES / 16, INVOCATIONS: invocations, NEIGHBOURS };
      const kernel = await gpu.kernel('bench_read', readWgsl, constants);
      const step = kernel.bind([x, sums], gridOf(invocations / 64));
      best = Math.max(best, READ_BYTES / (await leastMs(gpu, [step], 4)) / 1e6);
    }
  }
  return best;
}

async function fmaSpeed(gpu: Gpu): Promise<number> {
  let best = 0;
  for (const [workgroups, LOOPS] of [
    [64, 4096],
    [4096, 4096],
  ] as const) {
    const y = gpu.storage('fma', workgroups * 64 * 4);
    const kernel = await gpu.kernel('bench_fma', fmaWgsl, { LOOPS });
    const step = kernel.bind([y], gridOf(workgroups));
    const operations = workgroups * 64 * LOOPS * FMA_OPERATIONS;
    best = Math.max(best, operations / (await leastMs(gpu, [step], 1)) / 1e6);
    if (operations / best / 1e6 > 200) break; // a machine that is slow enough already
  }
  return best;
}

/** Many in one pass, so that what a pass costs by itself hardly counts. */
async function dispatchCost(gpu: Gpu): Promise<number> {
  const y = gpu.storage('nothing', 64 * 4);
  const kernel = await gpu.kernel('bench_fma', fmaWgsl, { LOOPS: 0 });
  return 1000 * (await leastMs(gpu, [kernel.bind([y], gridOf(1))], 2000));
}

/** The shortest time of several, in ms for one repetition. */
async function leastMs(gpu: Gpu, steps: readonly Step[], repetitions: number): Promise<number> {
  let least = Infinity;
  for (let i = 0; i <= TRIES; i++) {
    const start = performance.now();
    const encoder = gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (let r = 0; r < repetitions; r++) gpu.encode(pass, steps, 1);
    pass.end();
    gpu.device.queue.submit([encoder.finish()]);
    await gpu.idle();
    if (i > 0) least = Math.min(least, performance.now() - start); // the first one compiles
  }
  return least / repetitions;
}
