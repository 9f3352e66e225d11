/** What the reference computes rows of activations with, in f64 and as plain loops. */

export type Rows = readonly Float64Array[];

/** y[m][first + n] = weights[n, :] . x[m] for weights [N, columns]. */
export function multiply(
  weights: Float32Array,
  columns: number,
  x: Rows,
  y: Rows,
  first: number,
): void {
  const count = weights.length / columns;
  for (let n = 0; n < count; n++) {
    const row = weights.subarray(n * columns, (n + 1) * columns);
    for (let m = 0; m < x.length; m++) {
      const input = x[m] ?? row;
      let even = 0;
      let odd = 0;
      let k = 0;
      for (; k + 1 < columns; k += 2) {
        even += (row[k] ?? 0) * (input[k] ?? 0);
        odd += (row[k + 1] ?? 0) * (input[k + 1] ?? 0);
      }
      if (k < columns) even += (row[k] ?? 0) * (input[k] ?? 0);
      const output = y[m];
      if (output !== undefined) output[first + n] = even + odd;
    }
  }
}

/** x / sqrt(mean(x^2) + eps) * weight, row by row. */
export function rmsNorm(x: Rows, weight: Float32Array, eps: number): Rows {
  return x.map((row) => {
    const squares = row.reduce((sum, value) => sum + value * value, 0);
    const scale = 1 / Math.sqrt(squares / row.length + eps);
    return row.map((value, i) => value * scale * (weight[i] ?? 0));
  });
}

/** QK-norm: every head of a row by itself, in place; the heads share one weight. */
export function normHeads(row: Float64Array, weight: Float32Array, eps: number): void {
  for (let from = 0; from < row.length; from += weight.length) {
    const head = row.subarray(from, from + weight.length);
    const [normed] = rmsNorm([head], weight, eps);
    if (normed !== undefined) head.set(normed);
  }
}

/**
 * ALiBi's slope of every head: 2^(-8k/n), k = 1..n, for the largest power of two n that is not
 * above their number; the heads beyond it get every second slope of 2n.
 */
export function alibiSlopes(heads: number): number[] {
  let n = 1;
  while (2 * n <= heads) n *= 2;
  return Array.from({ length: heads }, (_, head) =>
    head < n ? 2 ** ((-8 * (head + 1)) / n) : 2 ** ((-8 * (2 * (head - n) + 1)) / (2 * n)),
  );
}

/** Rotates the pairs (i, i + Dh/2) of every head, in place. */
export function rotate(row: Float64Array, position: number, headDim: number, theta: number): void {
  const half = headDim / 2;
  for (let i = 0; i < half; i++) {
    const angle = position * theta ** (-i / half);
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    for (let a = i; a < row.length; a += headDim) {
      const [first, second] = [row[a] ?? 0, row[a + half] ?? 0];
      row[a] = first * cos - second * sin;
      row[a + half] = second * cos + first * sin;
    }
  }
}

export function add(a: Rows, b: Rows): Rows {
  return a.map((row, m) => row.map((value, i) => value + (b[m]?.[i] ?? 0)));
}

export function silu(value: number): number {
  return value / (1 + Math.exp(-value));
}

export function softmax(scores: readonly number[]): number[] {
  const most = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - most));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}
