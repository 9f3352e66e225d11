import type { AttentionShape } from './attention.ts';
import type { RopeShape } from './rope.ts';

/** The plain loops that the kernels around attention are held to. */

export interface RopeInputs extends RopeShape {
  readonly x: Float32Array; // [T, (H + 2 K) * Dh]
  readonly bias: Float32Array; // [(H + 2 K) * Dh]
  readonly weight: Float32Array; // [2 Dh]
  readonly position: number;
  readonly rotary?: boolean; // false where only bias and norm are wanted
}

/** v = x + bias, or that divided by its root mean square and weighted, of one head. */
function headOf(
  { headDim, heads, normEps, bias, weight }: RopeInputs,
  x: Float64Array,
  head: number,
) {
  const v = x.map((value, i) => value + (bias[head * headDim + i] ?? 0));
  if (normEps === null) return v;
  const root = Math.sqrt(v.reduce((sum, value) => sum + value * value, 0) / headDim + normEps);
  const side = head < heads ? 0 : headDim;
  return v.map((value, i) => (value / root) * (weight[side + i] ?? 0));
}

/** Rotates complex numbers a + ib by exp(i angle), in double precision; `sizes` are |a + ib|. */
export function ropeReference(inputs: RopeInputs) {
  const { x, heads, kvHeads, headDim, position, rotary = true } = inputs;
  const row = (heads + 2 * kvHeads) * headDim;
  const values = Float64Array.from(x);
  const sizes = Float64Array.from(x, (value) => Math.abs(value));
  for (let t = 0; t < x.length / row; t++) {
    for (let h = 0; h < heads + kvHeads; h++) {
      const start = t * row + h * headDim;
      const v = headOf(inputs, Float64Array.from(x.subarray(start, start + headDim)), h);
      for (let i = 0; i < headDim / 2; i++) {
        const angle = rotary ? (position + t) * 10000 ** ((-2 * i) / headDim) : 0;
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

export interface AttentionInputs extends AttentionShape {
  readonly qkv: Float32Array; // [T, (H + 2 K) * Dh]
  readonly keys: Float32Array; // [S, K, Dh]
  readonly values: Float32Array; // [S, K, Dh]
  readonly slopes: Float32Array; // [H]
  readonly tokens: number;
  readonly position: number;
}

/** Softmax attention in double precision; `sizes` are the weighted sums of |v|. */
export function attentionReference(inputs: AttentionInputs) {
  const { qkv, keys, values, slopes, tokens, position, heads, kvHeads, headDim } = inputs;
  const out = new Float64Array(tokens * heads * headDim);
  const sizes = new Float64Array(out.length);
  const row = (heads + 2 * kvHeads) * headDim;
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < heads; h++) {
      const shared = Math.floor(h / (heads / kvHeads));
      const at = (s: number, i: number): number => (s * kvHeads + shared) * headDim + i;
      const scores = Array.from({ length: position + t + 1 }, (_, s) => {
        let sum = 0;
        for (let i = 0; i < headDim; i++) {
          sum += (qkv[t * row + h * headDim + i] ?? 0) * (keys[at(s, i)] ?? 0);
        }
        return sum / Math.sqrt(headDim) + (slopes[h] ?? 0) * (s - position - t);
      });
      const largest = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - largest));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      for (let i = 0; i < headDim; i++) {
        const to = (t * heads + h) * headDim + i;
        for (const [s, weight] of weights.entries()) {
          const v = values[at(s, i)] ?? 0;
          out[to] = (out[to] ?? 0) + (weight / total) * v;
          sizes[to] = (sizes[to] ?? 0) + (weight / total) * Math.abs(v);
        }
      }
    }
  }
  return { out, sizes };
}
