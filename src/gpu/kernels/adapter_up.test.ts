import { describe, expect, it } from 'vitest';
import {
  gpuCases,
  openTestGpu,
  runSteps,
  sumPart,
  testNumbers,
  timesUnits,
  upload,
  uploadFactor,
  worstError,
} from '../testing.ts';
import { createAdapterUp } from './adapter_up.ts';
import { adapterReference } from './reference.ts';

/** T, P, rows of B, its first row in y, where its second and third linear begin, linears, width of y. */
const sizes = [
  [1, 32, 40, 0, [20, 40], 2, 40],
  [7, 4, 7, 5, [7, 7], 1, 12],
  [7, 8, 23, 2, [9, 14], 3, 25],
  [7, 96, 1728, 0, [864, 1728], 2, 1728],
] as const;

describe.each(gpuCases)('adapter_up in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each(sizes)(
    'adds B z, T=%i P=%i, %i rows from %i, linears at %j, %i of them, width %i',
    async (tokens, padded, rows, from, starts, linears, outputs) => {
      const b = uploadFactor(gpu, testNumbers(rows * padded, 1), padded, 'columns');
      const z = testNumbers(tokens * linears * padded, 2);
      const before = testNumbers(tokens * outputs, 3);
      const y = upload(gpu, before);
      const shape = { padded, rows, from, starts, linears, outputs };
      const bind = await createAdapterUp(gpu, shape);
      const step = bind({ b: b.buffer, z: upload(gpu, timesUnits(z, b)), y });
      const actual = await runSteps(gpu, [step], tokens, y, tokens * outputs);
      const values = Float64Array.from(before);
      const sizes = values.map(Math.abs);
      adapterReference(b.kept, z, shape, { values, sizes });
      expect(worstError(actual, values, sumPart, sizes)).toBeLessThan(1);
    },
  );
});
