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
import { createAttentionCombine } from './attention_combine.ts';

describe.each(gpuCases)('attention_combine in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each([
    ['one slice', 3, 4, 5, 60, 1],
    ['none but the new token', 2, 32, 3, 0, 1],
    ['the slices so far', 5, 12, 6, 200, 4],
    ['all of them', 7, 64, 4, 1001, 4],
  ])('adds up %s, H=%i Dh=%i of %i, position %i', async (_, heads, headDim, most, at, live) => {
    const row = headDim + 4;
    const slices = testNumbers(heads * most * row, 1);
    for (let i = 0; i < heads * most; i++) {
      // Rubbish in slices that are not there would win every maximum.
      const absent = i % most >= live;
      slices[i * row + headDim] = absent ? 1e30 : ((i * 37) % 23) / 2 - 400;
      slices[i * row + headDim + 1] = 1 + ((i * 13) % 7);
    }
    const y = gpu.storage('test', heads * headDim * 4);
    const bind = await createAttentionCombine(gpu, { heads, headDim, slices: most });
    const step = bind({ params: uploadParams(gpu, 1, at), slices: upload(gpu, slices), y });
    const actual = await runStepsElem(gpu, [step], 1, y, heads * headDim);
    const expected = new Float64Array(actual.length);
    const sizes = new Float64Array(actual.length);
    for (let h = 0; h < heads; h++) {
      const rows = Array.from({ length: live }, (_, i) =>
        slices.subarray((h * most + i) * row, (h * most + i + 1) * row),
      );
      const shares = rows.map((one) => Math.exp((one[headDim] ?? 0) + 400));
      const total = rows.reduce(
        (sum, one, i) => sum + (one[headDim + 1] ?? 0) * (shares[i] ?? 0),
        0,
      );
      for (let c = 0; c < headDim; c++) {
        const terms = rows.map((one, i) => ((one[c] ?? 0) * (shares[i] ?? 0)) / total);
        expected[h * headDim + c] = terms.reduce((sum, term) => sum + term, 0);
        sizes[h * headDim + c] = terms.reduce((sum, term) => sum + Math.abs(term), 0);
      }
    }
    // WGSL grants exp an error of 3 + 2 |x| units in the last place, and |x| is at most 12 here.
    const part = Math.max(elemPart(gpu), 2 ** -18);
    expect(
      worstError(
        actual,
        expected,
        part,
        sizes.map((size) => size + 1e-4),
      ),
    ).toBeLessThan(1);
  });
});
