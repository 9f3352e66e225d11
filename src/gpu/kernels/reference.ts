import type { AdapterRows } from './matvec_q4.ts';

/** The plain loop that the matrix kernels are held to. */

export interface MatrixCase {
  readonly tokens: number;
  readonly rows: number;
  readonly columns: number;
  readonly from: number;
  readonly outputs: number;
  readonly add: boolean;
}

/**
 * y[t, from + n] (+)= sum_k w[n, k] x[t, k], summed in double precision; rows outside are `before`.
 * `sizes` are the same sums with every term positive, each weight a whole scale larger: quantized
 * kernels take the offset of a group off at its end.
 */
export function matrixReference(
  w: Float32Array,
  x: Float32Array,
  before: Float32Array,
  { tokens, rows, columns, from, outputs, add }: MatrixCase,
): { values: Float64Array; sizes: Float64Array } {
  const values = Float64Array.from(before);
  const sizes = Float64Array.from(before, (value) => Math.abs(value));
  for (let t = 0; t < tokens; t++) {
    for (let n = 0; n < rows; n++) {
      let sum = 0;
      let size = 0;
      for (let g = 0; g < columns; g += 32) {
        const group = w.subarray(n * columns + g, n * columns + g + 32);
        const largest = group.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        for (let k = 0; k < group.length; k++) {
          const xk = x[t * columns + g + k] ?? 0;
          sum += (group[k] ?? 0) * xk;
          size += 2 * largest * Math.abs(xk);
        }
      }
      const at = t * outputs + from + n;
      values[at] = sum + (add ? (values[at] ?? 0) : 0);
      sizes[at] = size + (add ? (sizes[at] ?? 0) : 0);
    }
  }
  return { values, sizes };
}

/**
 * What may be lost where every 32 values of x become bytes, [T, outputs]: a byte is off by up to
 * half a unit, 1/127 of the largest value of its group, evenly spread (sigma 1/sqrt(12) units). The
 * errors of many terms add like noise; six standard deviations do not happen by chance. Bounding
 * each error by its worst would be some ten times wider, and would hide a lost term.
 */
export function byteNoise(
  w: Float32Array,
  x: Float32Array,
  { tokens, rows, columns, from, outputs }: Omit<MatrixCase, 'add'>,
): Float64Array {
  const noise = new Float64Array(tokens * outputs);
  for (let t = 0; t < tokens; t++) {
    for (let n = 0; n < rows; n++) {
      let variance = 0;
      for (let g = 0; g < columns; g += 32) {
        const group = x.subarray(t * columns + g, t * columns + g + 32);
        const unit = group.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
        const weights = w.subarray(n * columns + g, n * columns + g + group.length);
        variance += (weights.reduce((sum, value) => sum + value * value, 0) * unit * unit) / 12;
      }
      noise[t * outputs + from + n] = 6 * Math.sqrt(variance);
    }
  }
  return noise;
}

/**
 * Adds sum_j b[n, j] z[t, s, j] to row `from` + n of every token, s the linear that row n of B
 * belongs to, and the sum of the terms' sizes to `sizes`.
 */
export function adapterReference(
  b: Float32Array,
  z: Float32Array | Float64Array,
  shape: AdapterRows & { readonly outputs: number },
  into: { values: Float64Array; sizes: Float64Array },
): void {
  const { padded, rows, from, starts, linears, outputs } = shape;
  const tokens = into.values.length / outputs;
  for (let t = 0; t < tokens; t++) {
    for (let n = 0; n < rows; n++) {
      const linear = starts.filter((start) => n >= start).length;
      const at = t * outputs + from + n;
      for (let j = 0; j < padded; j++) {
        const product = (b[n * padded + j] ?? 0) * (z[(t * linears + linear) * padded + j] ?? 0);
        into.values[at] = (into.values[at] ?? 0) + product;
        into.sizes[at] = (into.sizes[at] ?? 0) + Math.abs(product);
      }
    }
  }
}
