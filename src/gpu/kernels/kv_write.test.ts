import { describe, expect, it } from 'vitest';
import {
  asElem,
  gpuCases,
  openTestGpu,
  runStepsElem,
  testNumbers,
  upload,
  uploadElem,
  uploadParams,
} from '../testing.ts';
import { createKvWrite } from './kv_write.ts';

describe.each(gpuCases)('kv_write in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each([
    [1, 32, 32, 0],
    [7, 96, 12, 5],
    [7, 320, 320, 3],
  ])('puts keys and values in place, T=%i Q=%i KV=%i at %i', async (tokens, queries, width, at) => {
    const capacity = 16;
    const row = queries + 2 * width;
    const qkv = testNumbers(tokens * row, 1);
    const before = asElem(gpu, testNumbers(capacity * width, 2));
    const keys = uploadElem(gpu, before);
    const values = uploadElem(gpu, before);
    const bind = await createKvWrite(gpu, { queries, width });
    const params = uploadParams(gpu, tokens, at);
    const step = bind({ params, qkv: upload(gpu, qkv), keys, values });
    for (const [part, buffer] of [keys, values].entries()) {
      const expected = before.slice();
      for (let t = 0; t < tokens; t++) {
        const from = t * row + queries + part * width;
        expected.set(asElem(gpu, qkv.slice(from, from + width)), (at + t) * width);
      }
      const actual = await runStepsElem(gpu, [step], tokens, buffer, capacity * width);
      expect(actual).toEqual(expected);
    }
  });
});
