import { floatToHalf, halfToFloat, type Quantized } from '../src/format/dtype.ts';
import { GROUP_SIZE } from '../src/format/manifest.ts';

/**
 * Our own quantizer, for checkpoints that come without integers. Each group of 32 along K gets the
 * scale that leaves the smallest squared error, measured with the scale as it is stored (f16).
 * `training/quant/grid.py` has the same rule; quantize-vectors.json holds both to the same bytes.
 */

/** Shrinking a scale clips the largest value and serves the other 31; growing rarely helps. */
const RATIOS = Array.from({ length: 20 }, (_, i) => (52 - i) / 50); // 1.04, 1.02, 1 ... 0.66
/** Adding and taking this away rounds numbers of moderate size to integers, ties to even. */
const TO_INTEGER = 1.5 * 2 ** 52;

/**
 * [N, K] to 4 bits, value = (q - 8) * scale. Two conventions for the scale are tried in every
 * ratio: the value of largest size becomes -8 (signed extreme), or +-7.
 */
export function quantizeQ4(values: Float32Array, rows: number, columns: number): Quantized {
  const q = new Uint8Array((rows * columns) / 2);
  const scale = new Uint16Array((rows * columns) / GROUP_SIZE);
  const group = new Float64Array(GROUP_SIZE);
  for (let index = 0; index < scale.length; index++) {
    const from = index * GROUP_SIZE;
    for (let i = 0; i < GROUP_SIZE; i++) group[i] = values[from + i] ?? 0;
    const bits = bestScale(group);
    const step = halfToFloat(bits);
    scale[index] = bits;
    for (let i = 0; i < GROUP_SIZE; i += 2) {
      const low = level(group[i] ?? 0, step, -8, 7) + 8;
      const high = level(group[i + 1] ?? 0, step, -8, 7) + 8;
      q[(from + i) >> 1] = low | (high << 4);
    }
  }
  return { q, scale };
}

/** [N, K] to 8 bits, value = (q - 128) * scale; the value of largest size becomes +-127. */
export function quantizeQ8(values: Float32Array, rows: number, columns: number): Quantized {
  const q = new Uint8Array(rows * columns);
  const scale = new Uint16Array((rows * columns) / GROUP_SIZE);
  for (let index = 0; index < scale.length; index++) {
    const from = index * GROUP_SIZE;
    let largest = 0;
    for (let i = from; i < from + GROUP_SIZE; i++) {
      largest = Math.max(largest, Math.abs(values[i] ?? 0));
    }
    const bits = floatToHalf(largest / 127);
    const step = halfToFloat(bits);
    scale[index] = bits;
    for (let i = from; i < from + GROUP_SIZE; i++) {
      q[i] = level(values[i] ?? 0, step, -128, 127) + 128;
    }
  }
  return { q, scale };
}

/**
 * Makes every row of [N, K] one of unit length, in place: NormHead's weight. As PyTorch's
 * F.normalize does, a row shorter than 1e-12 is divided by that.
 */
export function normaliseRows(values: Float32Array, rows: number, columns: number): void {
  for (let row = 0; row < rows; row++) {
    const from = row * columns;
    let squares = 0;
    for (let i = from; i < from + columns; i++) squares += (values[i] ?? 0) ** 2;
    const length = Math.max(Math.sqrt(squares), 1e-12);
    for (let i = from; i < from + columns; i++) values[i] = (values[i] ?? 0) / length;
  }
}

/** The f16 bits of the scale that leaves the least squared error in a group. */
function bestScale(group: Float64Array): number {
  let extreme = 0;
  for (const value of group) if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  if (extreme === 0) return 0;
  let best = 0;
  let least = Infinity;
  for (const base of [extreme / -8, Math.abs(extreme) / 7]) {
    for (const ratio of RATIOS) {
      const bits = floatToHalf(base * ratio);
      const step = halfToFloat(bits);
      if (step === 0) continue;
      const error = squaredError(group, step, least);
      if (error < least) {
        least = error;
        best = bits;
      }
    }
  }
  return best;
}

/** Sum of squared errors; ends early once it is no better than `limit`. */
function squaredError(group: Float64Array, step: number, limit: number): number {
  const inverse = 1 / step;
  let error = 0;
  for (let i = 0; i < GROUP_SIZE; i++) {
    const value = group[i] ?? 0;
    let level = value * inverse + TO_INTEGER - TO_INTEGER;
    if (level > 7) level = 7;
    else if (level < -8) level = -8;
    const difference = value - level * step;
    error += difference * difference;
    if (error >= limit) return error;
  }
  return error;
}

/** The integer nearest to value / step, ties to even; 0 where the step is 0. */
function level(value: number, step: number, low: number, high: number): number {
  if (step === 0) return 0;
  const nearest = value * (1 / step) + TO_INTEGER - TO_INTEGER;
  return Math.min(Math.max(nearest, low), high);
}
