import { Failure } from '../failure.ts';
import type { ModelConfig } from '../format/manifest.ts';
import type { TrialShape } from '../gpu/calibration-trial.ts';
import { cacheLayout } from '../gpu/kernels/cache.ts';
import type { Gpu } from '../gpu/gpu.ts';

/** A config and the widths that follow from it. */
export interface Sizes extends ModelConfig {
  readonly queryWidth: number; // H * Dh
  readonly kvWidth: number; // K * Dh
  readonly qkvRows: number; // queries, keys and values of one token
}

export function sizesOf(config: ModelConfig): Sizes {
  const queryWidth = config.heads * config.headDim;
  const kvWidth = config.kvHeads * config.headDim;
  return { ...config, queryWidth, kvWidth, qkvRows: queryWidth + 2 * kvWidth };
}

/** What `calibrate` measures: the matrix that a decode step spends most of its time in. */
export function trialShapeOf({ width, mlpWidth }: ModelConfig): TrialShape {
  return { columns: width, rows: 2 * mlpWidth };
}

/**
 * Says early what the kernels or the default limits of WebGPU cannot hold.
 * @throws Failure BadPackage (heads the kernels cannot cut), DeviceLimit (a cache that is too large)
 */
export function checkSizes(gpu: Gpu, sizes: Sizes): void {
  const { headDim, mlpWidth } = sizes;
  if (headDim % 4 !== 0) {
    throw new Failure('BadPackage', `headDim ${headDim} is not a multiple of 4`);
  }
  const limit = gpu.device.limits.maxStorageBufferBindingSize;
  const cache = cacheLayout(gpu, sizes).bytes;
  const activations = gpu.tuning.chunk * 2 * mlpWidth * 4;
  const largest = Math.max(cache, activations);
  if (largest > limit) {
    throw new Failure('DeviceLimit', `a buffer of ${largest} bytes, the limit is ${limit}`);
  }
}
