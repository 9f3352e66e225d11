import { describe, expect, it } from 'vitest';
import {
  elemPart,
  gpuCases,
  openTestGpu,
  runStepsElem,
  testNumbers,
  upload,
  uploadParams,
  worstError,
} from '../testing.ts';
import { createRmsNorm } from './rms_norm.ts';

function reference(x: Float32Array, weight: Float32Array, eps: number): number[] {
  const width = weight.length;
  return Array.from(x, (value, i) => {
    const row = x.subarray(i - (i % width), i - (i % width) + width);
    const mean = row.reduce((sum, v) => sum + v * v, 0) / width;
    return (value / Math.sqrt(mean + eps)) * (weight[i % width] ?? 0);
  });
}

describe.each(gpuCases)('rms_norm in $title', async (setting) => {
  const gpu = await openTestGpu(setting);
  const eps = 1e-5;

  it.each([
    [1, 32, 0, 1],
    [7, 96, 0, 1e-3], // small enough for eps to matter
    [3, 864, 4, 100],
  ])(
    'has the reference values, T=%i K=%i from row %i, size %d',
    async (tokens, width, first, size) => {
      const x = testNumbers((first + tokens) * width, 1).map((value) => value * size);
      const weight = testNumbers(width, 2);
      const y = gpu.storage('test', tokens * width * 4);
      const bind = await createRmsNorm(gpu, { width, eps });
      const params = uploadParams(gpu, tokens, 0, first);
      const step = bind({ params, x: upload(gpu, x), weight: upload(gpu, weight), y });
      const actual = await runStepsElem(gpu, [step], tokens, y, tokens * width);
      const expected = reference(x.slice(first * width), weight, eps);
      // Below 1e-4 f16 has fewer digits.
      const sizes = expected.map((value) => Math.abs(value) + 1e-4);
      expect(worstError(actual, expected, elemPart(gpu), sizes)).toBeLessThan(1);
    },
  );
});
