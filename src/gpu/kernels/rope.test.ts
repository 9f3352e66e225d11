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
import { createRope, ropeTable, type RopeShape } from './rope.ts';

interface Inputs extends RopeShape {
  readonly x: Float32Array; // [T, (H + 2 K) * Dh]
  readonly bias: Float32Array; // [(H + 2 K) * Dh]
  readonly weight: Float32Array; // [2 Dh]
  readonly position: number;
}

/** v = x + bias, or that divided by its root mean square and weighted, of one head. */
function headOf({ headDim, heads, normEps, bias, weight }: Inputs, x: Float64Array, head: number) {
  const v = x.map((value, i) => value + (bias[head * headDim + i] ?? 0));
  if (normEps === null) return v;
  const root = Math.sqrt(v.reduce((sum, value) => sum + value * value, 0) / headDim + normEps);
  const side = head < heads ? 0 : headDim;
  return v.map((value, i) => (value / root) * (weight[side + i] ?? 0));
}

/** Rotates complex numbers a + ib by exp(i angle), in double precision; `sizes` are |a + ib|. */
function reference(inputs: Inputs) {
  const { x, heads, kvHeads, headDim, position } = inputs;
  const row = (heads + 2 * kvHeads) * headDim;
  const values = Float64Array.from(x);
  const sizes = Float64Array.from(x, (value) => Math.abs(value));
  for (let t = 0; t < x.length / row; t++) {
    for (let h = 0; h < heads + kvHeads; h++) {
      const start = t * row + h * headDim;
      const v = headOf(inputs, Float64Array.from(x.subarray(start, start + headDim)), h);
      for (let i = 0; i < headDim / 2; i++) {
        const angle = (position + t) * 10000 ** ((-2 * i) / headDim);
        const [a, b] = [start + i, start + i + headDim / 2];
        const [va, vb] = [v[i] ?? 0, v[i + headDim / 2] ?? 0];
        values[a] = va * Math.cos(angle) - vb * Math.sin(angle);
        values[b] = vb * Math.cos(angle) + va * Math.sin(angle);
        sizes[a] = sizes[b] = Math.hypot(va, vb);
      }
    }
  }
  return { values, sizes };
}

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
      const { values, sizes } = reference({ ...shape, x, bias, weight, position });
      // A sum of x and bias that cancels is as exact as its terms.
      const allowed = sizes.map((size, i) => size + Math.abs(x[i] ?? 0) / 8);
      expect(worstError(actual, values, 2 ** -20, allowed)).toBeLessThan(1);
    },
  );
});
