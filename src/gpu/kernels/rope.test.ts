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
import { createRope, ropeTable } from './rope.ts';

interface RopeCase {
  readonly heads: number;
  readonly headDim: number;
  readonly row: number;
  readonly position: number;
}

/** Rotates complex numbers a + ib by exp(i angle), in double precision; `sizes` are |a + ib|. */
function reference(x: Float32Array, { heads, headDim, row, position }: RopeCase) {
  const values = Float64Array.from(x);
  const sizes = Float64Array.from(x, (value) => Math.abs(value));
  for (let t = 0; t < x.length / row; t++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < headDim / 2; i++) {
        const angle = (position + t) * 10000 ** ((-2 * i) / headDim);
        const a = t * row + h * headDim + i;
        const b = a + headDim / 2;
        const [xa, xb] = [x[a] ?? 0, x[b] ?? 0];
        values[a] = xa * Math.cos(angle) - xb * Math.sin(angle);
        values[b] = xb * Math.cos(angle) + xa * Math.sin(angle);
        sizes[a] = sizes[b] = Math.hypot(xa, xb);
      }
    }
  }
  return { values, sizes };
}

// rope works in f32 in both variants.
describe.each(gpuCases)('rope in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each([
    [1, 5, 64, 3000],
    [7, 3, 6, 0],
    [7, 2, 128, 4000],
  ])('turns T=%i H=%i Dh=%i from position %i', async (tokens, heads, headDim, position) => {
    const row = (heads + 1) * headDim; // the values after the keys must stay
    const x = testNumbers(tokens * row, 1);
    const buffer = upload(gpu, x);
    const bind = await createRope(gpu, { heads, headDim, row });
    const step = bind({
      params: uploadParams(gpu, tokens, position),
      angles: upload(gpu, ropeTable(4096, headDim, 10000)),
      x: buffer,
    });
    const actual = await runSteps(gpu, [step], tokens, buffer, x.length);
    const { values, sizes } = reference(x, { heads, headDim, row, position });
    expect(worstError(actual, values, 2 ** -21, sizes)).toBeLessThan(1);
  });
});
