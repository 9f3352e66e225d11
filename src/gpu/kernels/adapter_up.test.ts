import { describe, expect, it } from 'vitest';
import {
  asElem,
  gpuCases,
  openTestGpu,
  runSteps,
  sumPart,
  testNumbers,
  upload,
  uploadElem,
  worstError,
} from '../testing.ts';
import { createAdapterUp } from './adapter_up.ts';

/** P, rows of b, rows of one linear, linears in z, the first of them, first row of y, width of y. */
const sizes = [
  [1, 32, 40, 20, 2, 0, 0, 40],
  [7, 4, 7, 7, 3, 1, 5, 12],
  [7, 96, 1728, 864, 2, 0, 0, 1728],
] as const;

describe.each(gpuCases)('adapter_up in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each(sizes)(
    'adds B z, T=%i P=%i N=%i of %i, linears %i from %i, row %i of %i',
    async (tokens, padded, rows, linearRows, linears, first, from, outputs) => {
      const b = asElem(gpu, testNumbers(rows * padded, 1));
      const z = testNumbers(tokens * linears * padded, 2);
      const before = testNumbers(tokens * outputs, 3);
      const y = upload(gpu, before);
      const shape = { padded, rows, linearRows, linears, first, from, outputs };
      const bind = await createAdapterUp(gpu, shape);
      const step = bind({ b: uploadElem(gpu, b), z: upload(gpu, z), y });
      const actual = await runSteps(gpu, [step], tokens, y, tokens * outputs);
      const expected = Float64Array.from(before);
      const sizes = Float64Array.from(before, (value) => Math.abs(value));
      for (let t = 0; t < tokens; t++) {
        for (let n = 0; n < rows; n++) {
          const at = t * outputs + from + n;
          const segment = (t * linears + first + Math.floor(n / linearRows)) * padded;
          for (let j = 0; j < padded; j++) {
            const product = (b[n * padded + j] ?? 0) * (z[segment + j] ?? 0);
            expected[at] = (expected[at] ?? 0) + product;
            sizes[at] = (sizes[at] ?? 0) + Math.abs(product);
          }
        }
      }
      expect(worstError(actual, expected, sumPart, sizes)).toBeLessThan(1);
    },
  );
});
