import { describe, expect, it } from 'vitest';
import {
  gpuCases,
  openTestGpu,
  runSteps,
  testNumbers,
  upload,
  uploadParams,
  worstError,
} from '../testing.ts';
import { ropeReference } from './attention-reference.ts';
import { createRope, ropeTable } from './rope.ts';

// rope works in f32 in both variants.
describe.each(gpuCases)('rope in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each([
    [1, 4, 1, 64, 3000, 'as it is'],
    [7, 2, 1, 6, 0, 'as it is'],
    [7, 1, 1, 128, 4000, 'as it is'],
    [1, 4, 2, 16, 9, 'biased'],
    [7, 3, 1, 64, 30, 'biased'],
    [1, 4, 2, 32, 5, 'normed'],
    [7, 2, 2, 128, 40, 'normed'],
    [7, 5, 1, 6, 2, 'biased and normed'],
  ])(
    'turns T=%i H=%i K=%i Dh=%i from position %i, %s',
    async (tokens, heads, kvHeads, headDim, position, how) => {
      const row = (heads + 2 * kvHeads) * headDim;
      const normEps = how.includes('normed') ? 1e-3 : null;
      // Sizes at which eps matters.
      const x = testNumbers(tokens * row, 1).map((v) => (normEps === null ? v : v / 30));
      const bias = testNumbers(row, 2).map((v) => (how.includes('biased') ? v / 9 : 0));
      const weight = testNumbers(2 * headDim, 3);
      const buffer = upload(gpu, x);
      const shape = { heads, kvHeads, headDim, normEps };
      const bind = await createRope(gpu, shape);
      const step = bind({
        params: uploadParams(gpu, tokens, position),
        angles: upload(gpu, ropeTable(4096, headDim, 10000)),
        bias: upload(gpu, bias),
        weight: upload(gpu, weight),
        x: buffer,
      });
      const actual = await runSteps(gpu, [step], tokens, buffer, x.length);
      const { values, sizes } = ropeReference({ ...shape, x, bias, weight, position });
      // A sum of x and bias that cancels is as exact as its terms.
      const allowed = sizes.map((size, i) => size + Math.abs(x[i] ?? 0) / 8);
      expect(worstError(actual, values, 2 ** -20, allowed)).toBeLessThan(1);
    },
  );
});
