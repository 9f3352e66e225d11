import { describe, expect, it } from 'vitest';
import { packQ8, quantizedBlock, unpackQ8 } from '../../format/dtype.ts';
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
import { createMatvecQ8 } from './matvec_q8.ts';
import { matrixReference } from './reference.ts';

/** T, N, K, and where the rows go. */
const sizes = [
  [1, 7, 32, 0, 7],
  [7, 33, 96, 5, 40],
  [1, 131, 864, 0, 131],
  [1, 20, 4160, 0, 20],
] as const;

describe.each(gpuCases)('matvec_q8 in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each(sizes)(
    'is W x for T=%i N=%i K=%i at row %i of %i',
    async (tokens, rows, columns, from, outputs) => {
      const packed = packQ8(testNumbers(rows * columns, 1), rows, columns);
      const x = asElem(gpu, testNumbers(tokens * columns, 2));
      const before = testNumbers(tokens * outputs, 3); // other rows must stay as they are
      const y = upload(gpu, before);
      const bind = await createMatvecQ8(gpu, { columns, rows, from, outputs });
      const weights = upload(gpu, quantizedBlock('q8', packed, rows, columns));
      const step = bind({ weights, x: uploadElem(gpu, x), y });
      const actual = await runSteps(gpu, [step], tokens, y, tokens * outputs);
      const w = unpackQ8(packed, rows, columns);
      const shape = { tokens, rows, columns, from, outputs, add: false };
      const { values, sizes } = matrixReference(w, x, before, shape);
      expect(worstError(actual, values, sumPart, sizes)).toBeLessThan(1);
    },
  );
});
