import { GROUP_SIZE } from '../src/format/manifest.ts';
import type { Rounded } from './tensors.ts';

/**
 * Our own quantizer, for checkpoints that come without integers. Each group of 32 along K gets the
 * scale that leaves the smallest squared error, measured with the scale as it is stored (f16).
 * `training/quant/grid.py` has the same rule; quantize-vectors.json holds both to the same bytes.
 */

/** How 4-bit groups get their scales: by search, or so that the largest value becomes -8. */
export type Rounding = 'search' | 'naive';

/** Shrinking a scale clips the largest value and serves the other 31; growing rarely helps. */
export const RATIOS: readonly number[] = Array.from({ length: 20 }, (_, i) => (52 - i) / 50); // 1.04, 1.02, 1 ... 0.66
/** Adding and taking this away rounds numbers of moderate size to integers, ties to even. */
const TO_INTEGER = 1.5 * 2 ** 52;

/**
 * [N, K] to 4 bits, value = (q - 8) * scale. By search, two conventions for the scale are tried in
 * every ratio: the value of largest size becomes -8 (signed extreme), or +-7.
 */
export function quantizeQ4(
  values: Float32Array,
  rows: number,
  columns: number,
  rounding: Rounding = 'search',
): Rounded {
  const q = new Uint8Array((rows * columns) / 2);
  const scale = new Uint16Array((rows * columns) / GROUP_SIZE);
  let squares = 0;
  let error = 0;
  for (let index = 0; index < scale.length; index++) {
    const from = index * GROUP_SIZE;
    for (let i = 0; i < GROUP_SIZE; i++) group[i] = values[from + i] ?? 0;
    const step = rounding === 'search' ? bestStep() : nearestHalf(extremeOf() / -8);
    scale[index] = bitsOfHalf(step);
    const inverse = step === 0 ? 0 : 1 / step;
    for (let i = 0; i < GROUP_SIZE; i += 2) {
      const first = group[i] ?? 0;
      const second = group[i + 1] ?? 0;
      let low = first * inverse + TO_INTEGER - TO_INTEGER;
      let high = second * inverse + TO_INTEGER - TO_INTEGER;
      low = low > 7 ? 7 : low < -8 ? -8 : low;
      high = high > 7 ? 7 : high < -8 ? -8 : high;
      q[(from + i) >> 1] = (low + 8) | ((high + 8) << 4);
      const a = first - low * step;
      const b = second - high * step;
      squares += first * first + second * second;
      error += a * a + b * b;
    }
  }
  return { q, scale, rounding: { squares, error } };
}

/** [N, K] to 8 bits, value = (q - 128) * scale; the value of largest size becomes +-127. */
export function quantizeQ8(values: Float32Array, rows: number, columns: number): Rounded {
  const q = new Uint8Array(rows * columns);
  const scale = new Uint16Array((rows * columns) / GROUP_SIZE);
  let squares = 0;
  let error = 0;
  for (let index = 0; index < scale.length; index++) {
    const from = index * GROUP_SIZE;
    let largest = 0;
    for (let i = from; i < from + GROUP_SIZE; i++) {
      const size = Math.abs(values[i] ?? 0);
      if (size > largest) largest = size;
    }
    const step = nearestHalf(largest / 127);
    scale[index] = bitsOfHalf(step);
    const inverse = step === 0 ? 0 : 1 / step;
    for (let i = from; i < from + GROUP_SIZE; i++) {
      const value = values[i] ?? 0;
      let level = value * inverse + TO_INTEGER - TO_INTEGER;
      level = level > 127 ? 127 : level < -128 ? -128 : level;
      q[i] = level + 128;
      const difference = value - level * step;
      squares += value * value;
      error += difference * difference;
    }
  }
  return { q, scale, rounding: { squares, error } };
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

/** The group in hand. */
const group = new Float64Array(GROUP_SIZE);

/** The value of largest size in the group, with its sign. */
function extremeOf(): number {
  let extreme = 0;
  for (let i = 0; i < GROUP_SIZE; i++) {
    const value = group[i] ?? 0;
    if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  }
  return extreme;
}

/**
 * The scale that leaves the least squared error in the group; of equal ones the first of the signed
 * extreme's, then the first of the others. A pair, one of each convention, is measured in one pass.
 */
function bestStep(): number {
  const extreme = extremeOf();
  let leastA = Infinity;
  let leastB = Infinity;
  let bestA = 0;
  let bestB = 0;
  for (let r = 0; extreme !== 0 && r < RATIOS.length; r++) {
    const ratio = RATIOS[r] ?? 1;
    const a = nearestHalf((extreme / -8) * ratio);
    const b = nearestHalf((Math.abs(extreme) / 7) * ratio);
    const inverseA = 1 / a;
    const inverseB = 1 / b;
    let errorA = 0;
    let errorB = 0;
    for (let i = 0; i < GROUP_SIZE; i++) {
      const value = group[i] ?? 0;
      let levelA = value * inverseA + TO_INTEGER - TO_INTEGER;
      let levelB = value * inverseB + TO_INTEGER - TO_INTEGER;
      levelA = levelA > 7 ? 7 : levelA < -8 ? -8 : levelA;
      levelB = levelB > 7 ? 7 : levelB < -8 ? -8 : levelB;
      const differenceA = value - levelA * a;
      const differenceB = value - levelB * b;
      errorA += differenceA * differenceA;
      errorB += differenceB * differenceB;
      // Errors only grow: a pair that cannot win any more is left.
      if ((i & 7) === 7 && errorA >= leastA && errorB >= leastB) break;
    }
    if (errorA < leastA && a !== 0) {
      leastA = errorA;
      bestA = a;
    }
    if (errorB < leastB && b !== 0) {
      leastB = errorB;
      bestB = b;
    }
  }
  return leastB < leastA ? bestB : bestA;
}

const scratch = new Float64Array(1);
const scratchWords = new Int32Array(scratch.buffer); // low word first

/** The f16 nearest to a value below 65504, ties to even, as a number: `floatToHalf` at speed. */
export function nearestHalf(value: number): number {
  if (Math.abs(value) < 2 ** -14) return (value * 2 ** 24 + TO_INTEGER - TO_INTEGER) * 2 ** -24;
  scratch[0] = value;
  const high = scratchWords[1] ?? 0; // its last 10 bits, and all of the low word, are too many
  const rest = high & 0x3ff;
  const tie = rest === 0x200 && scratchWords[0] === 0;
  const up = tie ? (high & 0x400) !== 0 : rest >= 0x200;
  scratchWords[1] = (high & ~0x3ff) + (up ? 0x400 : 0);
  scratchWords[0] = 0;
  return scratch[0];
}

/** The 16 bits of a number that is an f16: `floatToHalf` at speed, and never a negative zero. */
export function bitsOfHalf(value: number): number {
  if (value === 0) return 0;
  scratch[0] = value;
  const high = scratchWords[1] ?? 0;
  const sign = (high >>> 16) & 0x8000;
  if (Math.abs(value) < 2 ** -14) return sign | (Math.abs(value) * 2 ** 24);
  return sign | ((((high >>> 20) & 0x7ff) - 1008) << 10) | ((high >>> 10) & 0x3ff);
}
