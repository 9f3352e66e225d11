import { describe, expect, it } from 'vitest';
import { packQ4, quantizedBlock, unpackQ4 } from '../../format/dtype.ts';
import {
  asElem,
  gpuCases,
  openTestGpu,
  runSteps,
  sumPart,
  testNumbers,
  upload,
  uploadElem,
  uploadParams,
  worstError,
} from '../testing.ts';
import { createMatmulQ4 } from './matmul_q4.ts';
import { matrixReference } from './reference.ts';

/** T, N, K, where the rows go, and whether they are added there. */
const sizes = [
  [1, 7, 32, 0, 7, false],
  [7, 67, 96, 5, 80, true],
  [33, 130, 864, 0, 130, false],
  [64, 64, 320, 0, 64, true],
] as const;

// The tile is fixed, so the two cuts are one.
const cases = gpuCases.filter(({ title }) => !title.includes('software'));

describe.each(cases)('matmul_q4 in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each(sizes)(
    'is W x for T=%i N=%i K=%i at row %i of %i, added: %s',
    async (tokens, rows, columns, from, outputs, add) => {
      const packed = packQ4(testNumbers(rows * columns, 1), rows, columns);
      const x = asElem(gpu, testNumbers(tokens * columns, 2));
      const before = testNumbers(tokens * outputs, 3);
      const y = upload(gpu, before);
      const bind = await createMatmulQ4(gpu, { columns, rows, from, outputs, add });
      const step = bind({
        params: uploadParams(gpu, tokens),
        weights: upload(gpu, quantizedBlock('q4', packed, rows, columns)),
        x: uploadElem(gpu, x),
        y,
      });
      const actual = await runSteps(gpu, [step], tokens, y, tokens * outputs);
      const w = unpackQ4(packed, rows, columns);
      const shape = { tokens, rows, columns, from, outputs, add };
      const { values, sizes } = matrixReference(w, x, before, shape);
      expect(worstError(actual, values, sumPart, sizes)).toBeLessThan(1);
    },
  );
});
