import { describe, expect, it } from 'vitest';
import {
  elemPart,
  gpuCases,
  openTestGpu,
  runStepsElem,
  testNumbers,
  upload,
  worstError,
} from '../testing.ts';
import { createSwiglu } from './swiglu.ts';

describe.each(gpuCases)('swiglu in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each([
    [1, 32],
    [7, 96],
    [3, 864],
  ])('is silu(gate) * up, also far from zero, T=%i F=%i', async (tokens, width) => {
    const gateUp = testNumbers(tokens * 2 * width, 1);
    gateUp.set([-1000, -90, -30, 0, 30, 90, 1000]); // exp(-gate) overflows and vanishes
    const y = gpu.storage('test', tokens * width * 4);
    const bind = await createSwiglu(gpu, width);
    const step = bind({ gateUp: upload(gpu, gateUp), y });
    const actual = await runStepsElem(gpu, [step], tokens, y, tokens * width);
    const expected = Array.from(actual, (_, i) => {
      const at = Math.floor(i / width) * 2 * width + (i % width);
      const gate = gateUp[at] ?? 0;
      return (gate / (1 + Math.exp(-gate))) * (gateUp[at + width] ?? 0);
    });
    // WGSL grants exp an error of 3 + 2 |x| units in the last place; below 1e-6 f16 has no digits.
    const part = Math.max(elemPart(gpu), 2 ** -17);
    const sizes = expected.map((value) => Math.abs(value) + 1e-4);
    expect(worstError(actual, expected, part, sizes)).toBeLessThan(1);
  });
});
