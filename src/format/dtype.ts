import { blockBytes, qPlaneBytes } from './layout.ts';
import { GROUP_SIZE, type TensorInfo } from './manifest.ts';

/**
 * Numbers of a package as bytes, and back: the plain reference that kernels, converter and tests
 * are held to. Matrices are [N, K], row-major; K is a multiple of 32; bytes are little-endian.
 */

type Dtype = TensorInfo['dtype'];

/** Integers and the scale of every group of 32 along K. */
export interface Quantized {
  readonly q: Uint8Array<ArrayBuffer>; // q4: [N, K/2], low nibble first; q8: [N, K]
  readonly scale: Uint16Array<ArrayBuffer>; // f16 bits, [N, K/32]
}

const scratch = new Float64Array(1);
const scratchWords = new Uint32Array(scratch.buffer);
const toIntegerEven = 2 ** 52; // adding and taking it away rounds 0 <= x < 2^52 half to even

/** The f16 nearest to `value`, ties to even, as 16 bits (IEEE 754 binary16). Too large: infinity. */
export function floatToHalf(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00; // half-way from the largest f16 to 2^16
  scratch[0] = size;
  const exponent = (((scratchWords[1] ?? 0) >>> 20) & 0x7ff) - 1023;
  if (exponent < -14) return sign | (size * 2 ** 24 + toIntegerEven - toIntegerEven);
  const mantissa = size * 2 ** (10 - exponent) + toIntegerEven - toIntegerEven; // [1024, 2048]
  return sign | (((exponent + 15) << 10) + mantissa - 1024);
}

/** The value of an f16 given as 16 bits. */
export function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 0x1f) return mantissa === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  return sign * (1024 + mantissa) * 2 ** (exponent - 25);
}

/** The f32 whose upper half is `bits`. */
export function bfloatToFloat(bits: number): number {
  bfloatWord[0] = bits << 16;
  return bfloatValue[0] ?? 0;
}
const bfloatWord = new Uint32Array(1);
const bfloatValue = new Float32Array(bfloatWord.buffer);

/** Many f16 as f32, by a table of all of them. */
export function halvesToFloats(bits: Uint16Array): Float32Array<ArrayBuffer> {
  halfValues ??= Float32Array.from({ length: 1 << 16 }, (_, half) => halfToFloat(half));
  const values = new Float32Array(bits.length);
  for (let i = 0; i < values.length; i++) values[i] = halfValues[bits[i] ?? 0] ?? 0;
  return values;
}
let halfValues: Float32Array | undefined;

/** Many bf16 as f32, and the largest of them without its sign, as bits: NaN is above infinity. */
export function bfloatsToFloats(bits: Uint16Array): {
  values: Float32Array<ArrayBuffer>;
  largest: number;
} {
  const words = new Uint32Array(bits.length);
  let largest = 0;
  for (let i = 0; i < words.length; i++) {
    const one = bits[i] ?? 0;
    const size = one & 0x7fff;
    if (size > largest) largest = size;
    words[i] = one << 16;
  }
  return { values: new Float32Array(words.buffer), largest };
}

/**
 * Packs [N, K] to 4 bits by the plain rule: in each group the value of largest size becomes -8.
 * (The converter searches for better scales; what it writes has this same form.)
 */
export function packQ4(values: Float32Array, rows: number, columns: number): Quantized {
  checkSize(values, rows, columns);
  const q = new Uint8Array((rows * columns) / 2);
  const scale = new Uint16Array((rows * columns) / GROUP_SIZE);
  for (let group = 0; group < scale.length; group++) {
    const from = group * GROUP_SIZE;
    scale[group] = scaleBits(extreme(values, from) / -8);
    const step = halfToFloat(scale[group] ?? 0);
    for (let i = from; i < from + GROUP_SIZE; i++) {
      const level = step === 0 ? 8 : clamp(Math.round((values[i] ?? 0) / step) + 8, 0, 15);
      q[i >> 1] = (q[i >> 1] ?? 0) | (level << (4 * (i & 1)));
    }
  }
  return { q, scale };
}

/** Packs [N, K] to 8 bits: in each group the value of largest size becomes 127 or -127. */
export function packQ8(values: Float32Array, rows: number, columns: number): Quantized {
  checkSize(values, rows, columns);
  const q = new Uint8Array(rows * columns);
  const scale = new Uint16Array((rows * columns) / GROUP_SIZE);
  for (let group = 0; group < scale.length; group++) {
    const from = group * GROUP_SIZE;
    scale[group] = scaleBits(Math.abs(extreme(values, from)) / 127);
    const step = halfToFloat(scale[group] ?? 0);
    for (let i = from; i < from + GROUP_SIZE; i++) {
      q[i] = step === 0 ? 128 : clamp(Math.round((values[i] ?? 0) / step) + 128, 0, 255);
    }
  }
  return { q, scale };
}

/** (q - 8) * scale, [N, K]. Exact: 4 and 11 bits of mantissa fit an f32. */
export function unpackQ4({ q, scale }: Quantized, rows: number, columns: number): Float32Array {
  const values = new Float32Array(rows * columns);
  const steps = halvesToFloats(scale);
  for (let group = 0; group < values.length / GROUP_SIZE; group++) {
    const step = steps[group] ?? 0;
    const from = group * GROUP_SIZE;
    for (let i = from; i < from + GROUP_SIZE; i += 2) {
      const pair = q[i >> 1] ?? 0;
      values[i] = ((pair & 15) - 8) * step;
      values[i + 1] = ((pair >> 4) - 8) * step;
    }
  }
  return values;
}

/** (q - 128) * scale, [N, K]. Exact: 8 and 11 bits of mantissa fit an f32. */
export function unpackQ8({ q, scale }: Quantized, rows: number, columns: number): Float32Array {
  const values = new Float32Array(rows * columns);
  const steps = halvesToFloats(scale);
  for (let group = 0; group < values.length / GROUP_SIZE; group++) {
    const step = steps[group] ?? 0;
    const from = group * GROUP_SIZE;
    for (let i = from; i < from + GROUP_SIZE; i++) values[i] = ((q[i] ?? 0) - 128) * step;
  }
  return values;
}

/** The bytes of a block as a package holds them: q plane, scale plane, zeros up to 16 bytes. */
export function quantizedBlock(
  dtype: 'q4' | 'q8',
  { q, scale }: Quantized,
  rows: number,
  columns: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(blockBytes(dtype, rows, columns));
  bytes.set(q);
  bytes.set(new Uint8Array(scale.buffer, scale.byteOffset, scale.byteLength), q.length);
  return bytes;
}

/** The values of one block, [rows, columns] in f32. A vector has one column. */
export function dequantizeBlock(
  dtype: Dtype,
  bytes: Uint8Array,
  rows: number,
  columns: number,
): Float32Array {
  if (bytes.length < blockBytes(dtype, rows, columns)) {
    throw new RangeError(`${dtype} block of ${rows} x ${columns} in ${bytes.length} bytes`);
  }
  const plane = qPlaneBytes(dtype, rows, columns);
  // Copies, so that views of 2 and 4 bytes are aligned; slice() of Node's Buffer would not copy.
  const q = new Uint8Array(bytes.subarray(0, plane));
  if (dtype === 'f32') return new Float32Array(q.buffer);
  if (dtype === 'f16') return halvesToFloats(new Uint16Array(q.buffer));
  const groups = (rows * columns) / GROUP_SIZE;
  const scale = new Uint16Array(new Uint8Array(bytes.subarray(plane, plane + 2 * groups)).buffer);
  return dtype === 'q4'
    ? unpackQ4({ q, scale }, rows, columns)
    : unpackQ8({ q, scale }, rows, columns);
}

/** A scale as f16, never a negative zero: a group of zeros has one spelling. */
function scaleBits(scale: number): number {
  const bits = floatToHalf(scale);
  return bits === 0x8000 ? 0 : bits;
}

/** The value of largest size in a group, with its sign. */
function extreme(values: Float32Array, from: number): number {
  let found = 0;
  for (let i = from; i < from + GROUP_SIZE; i++) {
    const value = values[i] ?? 0;
    if (Math.abs(value) > Math.abs(found)) found = value;
  }
  return found;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

function checkSize(values: Float32Array, rows: number, columns: number): void {
  if (columns % GROUP_SIZE !== 0 || values.length !== rows * columns) {
    throw new RangeError(`${values.length} values cannot be packed as ${rows} x ${columns}`);
  }
}
