import type { Gpu, Step } from '../gpu/gpu.ts';

/** Milliseconds of GPU time and dispatches, by kernel. */
export type KernelTimes = ReadonlyMap<string, { readonly ms: number; readonly dispatches: number }>;

/** Runs every step as a pass of its own between two timestamps. */
export async function profile(
  gpu: Gpu,
  lists: readonly (readonly Step[])[],
  head: readonly Step[],
  tokens: number,
): Promise<KernelTimes | null> {
  const { device } = gpu;
  if (!device.features.has('timestamp-query')) return null;
  const steps = [
    ...lists.flat().map((step) => ({ step, tokens })),
    ...head.map((step) => ({ step, tokens: 1 })),
  ];
  const bytes = steps.length * 16;
  const querySet = device.createQuerySet({ type: 'timestamp', count: steps.length * 2 });
  const { QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  const resolved = device.createBuffer({ size: bytes, usage: QUERY_RESOLVE | COPY_SRC });
  const staging = device.createBuffer({ size: bytes, usage: MAP_READ | COPY_DST });
  const encoder = device.createCommandEncoder();
  steps.forEach(({ step, tokens: count }, i) => {
    const timestampWrites = {
      querySet,
      beginningOfPassWriteIndex: i * 2,
      endOfPassWriteIndex: i * 2 + 1,
    };
    const pass = encoder.beginComputePass({ timestampWrites });
    gpu.encode(pass, [step], count);
    pass.end();
  });
  encoder.resolveQuerySet(querySet, 0, steps.length * 2, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, staging, 0, bytes);
  device.queue.submit([encoder.finish()]);
  const words = new Float32Array(bytes / 4);
  await gpu.read(staging, words);
  const stamps = new BigUint64Array(words.buffer); // nanoseconds
  const times = new Map<string, { ms: number; dispatches: number }>();
  steps.forEach(({ step }, i) => {
    const ms = Number((stamps[i * 2 + 1] ?? 0n) - (stamps[i * 2] ?? 0n)) / 1e6;
    const sum = times.get(step.kernel) ?? { ms: 0, dispatches: 0 };
    times.set(step.kernel, { ms: sum.ms + ms, dispatches: sum.dispatches + 1 });
  });
  querySet.destroy();
  resolved.destroy();
  staging.destroy();
  return times;
}
