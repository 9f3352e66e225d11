import { packQ4, quantizedBlock, unpackQ4 } from '../../format/dtype.ts';
import type { Gpu } from '../gpu.ts';
import {
  asElem,
  elemPart,
  runSteps,
  runStepsElem,
  sumPart,
  testNumbers,
  timesUnits,
  upload,
  uploadElem,
  uploadFactor,
  uploadParams,
  worstError,
} from '../testing.ts';
import { createMatvecQ4, type AdapterRows } from './matvec_q4.ts';
import { adapterReference, byteNoise, matrixReference } from './reference.ts';

/** What the tests of matvec_q4 and of its variants share: odd shapes, a plain loop, the comparison. */

export interface Fused {
  readonly rows: number;
  readonly columns: number;
  readonly from?: number;
  readonly outputs?: number;
  readonly add?: boolean;
  readonly normed?: boolean;
  readonly silu?: boolean;
  readonly adapter?: AdapterRows;
}

/** N, K, first row and outputs, what is added to, the norm, the adapter's rows, silu. */
// prettier-ignore
export const fusedCases: readonly (readonly [string, Fused])[] = [
  ['a norm', { rows: 70, columns: 96, normed: true }],
  ['a norm over more columns than a workgroup keeps', { rows: 21, columns: 2080, normed: true }],
  ['silu', { rows: 2 * 18, columns: 64, silu: true }],
  ['a norm, silu and an adapter', { rows: 2 * 36, columns: 320, normed: true, silu: true, adapter: { padded: 32, from: 0, rows: 72, starts: [36, 72], linears: 2 } }],
  ['silu and an adapter whose linears begin anywhere', { rows: 2 * 27, columns: 96, silu: true, adapter: { padded: 12, from: 3, rows: 47, starts: [24, 47], linears: 2 } }],
  ['an adapter of every row, added', { rows: 40, columns: 864, add: true, adapter: { padded: 4, from: 0, rows: 40, starts: [40, 40], linears: 1 } }],
  ['an adapter of three linears around a block of rows', { rows: 37, columns: 64, from: 10, outputs: 61, adapter: { padded: 8, from: 2, rows: 55, starts: [12, 31], linears: 3 } }],
  ['an adapter of some rows, with a norm', { rows: 48, columns: 96, normed: true, adapter: { padded: 36, from: 16, rows: 16, starts: [16, 16], linears: 1 } }],
];

const eps = 1e-3;

/**
 * What one invocation after the other would compute, in double precision, and what activations of
 * 8 bits may lose on top (`noise`).
 */
function fusedReference(
  {
    rows,
    columns,
    from = 0,
    outputs = rows,
    add = false,
    normed = false,
    silu = false,
    adapter,
  }: Fused,
  inputs: Record<'w' | 'x' | 'norm' | 'b' | 'z' | 'before', Float32Array>,
  tokens: number,
) {
  const { w, x, norm, b, z, before } = inputs;
  const weighed = x.map((value, i) => value * (normed ? (norm[i % columns] ?? 0) : 1));
  const none = new Float32Array(tokens * outputs);
  const shape = { tokens, rows, columns, from, outputs, add: false };
  const product = matrixReference(w, weighed, none, shape);
  const noise = byteNoise(w, weighed, shape);
  // Rows of B outside of this block are another dispatch's.
  if (adapter) adapterReference(b, z, { ...adapter, outputs }, product);
  const values = Float64Array.from(before);
  const sizes = values.map(Math.abs);
  for (let t = 0; t < tokens; t++) {
    const row = x.subarray(t * columns, (t + 1) * columns);
    const mean = row.reduce((sum, value) => sum + value * value, 0) / columns;
    const factor = normed ? 1 / Math.sqrt(mean + eps) : 1;
    const of = (array: Float64Array, n: number): number => (array[t * outputs + n] ?? 0) * factor;
    for (let n = from; n < from + rows; n++) {
      const at = t * outputs + n;
      values[at] = of(product.values, n) + (add ? (before[at] ?? 0) : 0);
      sizes[at] = of(product.sizes, n) + (add ? Math.abs(before[at] ?? 0) : 0);
      noise[at] = of(noise, n);
    }
  }
  if (!silu) return { values, sizes, noise };
  const half = rows / 2;
  const pick = (array: Float64Array, i: number, second: number): number =>
    array[Math.floor(i / half) * outputs + (i % half) + second * half] ?? 0;
  const gated = new Float64Array(tokens * half).map((_, i) => {
    const gate = pick(values, i, 0);
    return (gate / (1 + Math.exp(-gate))) * pick(values, i, 1);
  });
  // An error of the gate goes into its exponent: silu changes by at most 1.1 times that.
  const gatedSizes = gated.map(
    (_, i) =>
      1.1 * pick(sizes, i, 0) * Math.abs(pick(values, i, 1)) +
      Math.abs(pick(values, i, 0)) * pick(sizes, i, 1),
  );
  const gatedNoise = gated.map(
    (_, i) =>
      1.1 * pick(noise, i, 0) * (Math.abs(pick(values, i, 1)) + pick(noise, i, 1)) +
      Math.abs(pick(values, i, 0)) * pick(noise, i, 1),
  );
  return { values: gated, sizes: gatedSizes, noise: gatedNoise };
}

/** Kernel against plain loop: the largest error in units of what may be lost, below 1 if it is right. */
export async function fusedError(gpu: Gpu, shape: Fused): Promise<number> {
  const { rows, columns, from = 0, outputs = rows, add = false, normed = false, silu = false, adapter } = shape; // prettier-ignore
  const tokens = 3;
  const packed = packQ4(testNumbers(rows * columns, 1), rows, columns);
  // Sizes at which eps matters, and at which silu is neither 0 nor its argument.
  const numbers = testNumbers(tokens * columns, 2).map((value) => value / (normed ? 30 : 900));
  const padded = adapter?.padded ?? 4;
  const factor = uploadFactor(
    gpu,
    testNumbers((adapter?.rows ?? 1) * padded, 4),
    padded,
    'columns',
  );
  const inputs = {
    w: unpackQ4(packed, rows, columns),
    x: normed ? numbers : asElem(gpu, numbers),
    norm: testNumbers(columns, 3).map((value) => value / 20),
    b: factor.kept,
    // silu multiplies two of these sums: f16 must be able to hold that.
    z: testNumbers(tokens * (adapter?.linears ?? 1) * padded, 5).map((value) =>
      silu ? value / 50 : value,
    ),
    before: silu ? new Float32Array(tokens * outputs) : testNumbers(tokens * outputs, 6),
  };
  const y = upload(gpu, inputs.before);
  const fusion = {
    silu,
    several: true,
    ...(normed && { normEps: eps }),
    ...(adapter && { adapter }),
  };
  const bind = await createMatvecQ4(gpu, { columns, rows, from, outputs, add }, fusion);
  const step = bind({
    params: uploadParams(gpu, tokens),
    weights: upload(gpu, quantizedBlock('q4', packed, rows, columns)),
    x: normed ? upload(gpu, inputs.x) : uploadElem(gpu, inputs.x),
    norm: upload(gpu, inputs.norm),
    b: factor.buffer,
    z: upload(gpu, timesUnits(inputs.z, factor)),
    y,
  });
  const count = tokens * (silu ? rows / 2 : outputs);
  const run = silu ? runStepsElem : runSteps;
  const actual = await run(gpu, [step], tokens, y, count);
  const { values, sizes, noise } = fusedReference(shape, inputs, tokens);
  // silu: WGSL grants exp 3 + 2 |x| units in the last place; below 1e-6 f16 has no digits.
  const part = silu ? Math.max(elemPart(gpu), 2 ** -17) : sumPart;
  const allowed = sizes.map((size, i) => {
    const rounded = gpu.tuning.matvec.int8 ? (noise[i] ?? 0) / part : 0;
    return size + (silu ? 1e-3 : 0) + rounded;
  });
  return worstError(actual, values, part, allowed);
}
