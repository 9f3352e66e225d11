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
    [1, 32, 32, 0, 0],
    [7, 96, 12, 5, 0],
    [7, 320, 320, 3, 0],
    [1, 64, 32, 9, 1],
    [7, 96, 24, 2, 1],
  ])('puts keys and values in place, T=%i Q=%i KV=%i at %i, bias of %i', async (...sizes) => {
    const [tokens, queries, width, at, biased] = sizes;
    const capacity = 16;
    const row = queries + 2 * width;
    const qkv = testNumbers(tokens * row, 1);
    const bias = testNumbers(row, 3).map((value) => value * biased);
    const before = asElem(gpu, testNumbers(capacity * width, 2));
    const keys = uploadElem(gpu, before);
    const values = uploadElem(gpu, before);
    const bind = await createKvWrite(gpu, { queries, width, headDim: 4 });
    const params = uploadParams(gpu, tokens, at);
    const step = bind({ params, qkv: upload(gpu, qkv), bias: upload(gpu, bias), keys, values });
    for (const [part, buffer] of [keys, values].entries()) {
      const expected = before.slice();
      for (let t = 0; t < tokens; t++) {
        const from = queries + part * width;
        const values = qkv.slice(t * row + from, t * row + from + width);
        // Keys have theirs already. A sum of two f32 numbers is the same in every order.
        const sums = part === 0 ? values : values.map((value, i) => value + (bias[from + i] ?? 0));
        expected.set(asElem(gpu, sums), (at + t) * width);
      }
      const actual = await runStepsElem(gpu, [step], tokens, buffer, capacity * width);
      expect(actual).toEqual(expected);
    }
  });
});
