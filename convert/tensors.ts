import { floatToHalf, type Quantized } from '../src/format/dtype.ts';
import { qPlaneBytes } from '../src/format/layout.ts';
import { GROUP_SIZE, type TensorInfo } from '../src/format/manifest.ts';

/** A tensor on its way into a package: it can write any of its rows as a block. */
export interface PackageTensor {
  readonly name: string;
  readonly dtype: TensorInfo['dtype'];
  readonly shape: readonly number[];
  /** Fills `block` (blockBytes zeros) with rows [from, to); null where nothing is rounded. */
  write(from: number, to: number, block: Uint8Array): Promise<RoundingError | null>;
}

/** What rounding did to some weights: sums of their squares and of the squared differences. */
export interface RoundingError {
  readonly squares: number;
  readonly error: number;
}

/** Some consecutive rows of a quantized tensor: several of them are fused into one. */
export interface RowPart {
  readonly rows: number;
  /** Puts rows [from, to) into their places; null where they came as integers. */
  write(from: number, to: number, q: Uint8Array, scale: Uint8Array): Promise<RoundingError | null>;
}

/** Some consecutive rows of a matrix as floats. */
export interface FloatPart {
  readonly rows: number;
  read(from: number, to: number): Promise<Float32Array<ArrayBuffer>>;
  /** Fills a place with the bytes of rows from `from` on, where they are bf16 in a file; or null. */
  readonly bfloats: ((from: number, target: Uint8Array) => Promise<void>) | null;
}

/** Rows in integers; without an error where they came as integers. */
export interface Rounded extends Quantized {
  readonly rounding?: RoundingError;
}

/** So many values are held in f32 at once. */
export const CHUNK_VALUES = 1 << 18;

/** A q4 or q8 matrix [sum of the parts' rows, columns]. */
export function quantizedTensor(
  name: string,
  dtype: 'q4' | 'q8',
  columns: number,
  parts: readonly RowPart[],
): PackageTensor {
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const write = async (from: number, to: number, block: Uint8Array) => {
    const sums = { squares: 0, error: 0 };
    let rounded = false;
    const qAt = (row: number) => qPlaneBytes(dtype, row - from, columns);
    const scaleAt = (row: number) => qAt(to) + ((row - from) * columns * 2) / GROUP_SIZE;
    let first = 0; // row of the tensor where the part begins
    for (const part of parts) {
      const [begin, end] = [Math.max(from, first), Math.min(to, first + part.rows)];
      if (begin < end) {
        const q = block.subarray(qAt(begin), qAt(end));
        const scale = block.subarray(scaleAt(begin), scaleAt(end));
        const error = await part.write(begin - first, end - first, q, scale);
        rounded ||= error !== null;
        sums.squares += error?.squares ?? 0;
        sums.error += error?.error ?? 0;
      }
      first += part.rows;
    }
    return rounded ? sums : null;
  };
  return { name, dtype, shape: [rows, columns], write };
}

/** A matrix [sum of the parts' rows, columns] that is not rounded to integers. */
export function floatTensor(
  name: string,
  dtype: 'f16' | 'f32',
  columns: number,
  parts: readonly FloatPart[],
): PackageTensor {
  const chunk = Math.max(1, Math.floor(CHUNK_VALUES / columns));
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const write = async (from: number, to: number, block: Uint8Array) => {
    let first = 0; // row of the tensor where the part begins
    for (const part of parts) {
      const end = Math.min(to, first + part.rows);
      for (let row = Math.max(from, first); row < end; row += chunk) {
        const values = await part.read(row - first, Math.min(end, row + chunk) - first);
        const stored = dtype === 'f16' ? toHalves(values) : values;
        const bytes = new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
        block.set(bytes, qPlaneBytes(dtype, row - from, columns));
      }
      first += part.rows;
    }
    return null;
  };
  return { name, dtype, shape: [rows, columns], write };
}

/** Numbers as bits of f16. */
export function toHalves(values: Float32Array): Uint16Array<ArrayBuffer> {
  return Uint16Array.from(values, floatToHalf);
}

/** A tensor of f32 or f16 whose numbers are at hand. */
export function plainTensor(
  name: string,
  shape: readonly number[],
  values: Float32Array | Uint16Array,
): PackageTensor {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const rowBytes = bytes.length / (shape[0] ?? 1);
  const write = (from: number, to: number, block: Uint8Array) => {
    block.set(bytes.subarray(from * rowBytes, to * rowBytes));
    return Promise.resolve(null);
  };
  return { name, dtype: values instanceof Float32Array ? 'f32' : 'f16', shape, write };
}
