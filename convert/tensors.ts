import type { Quantized } from '../src/format/dtype.ts';
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
  read(from: number, to: number): Promise<Rounded>;
}

/** Rows in integers; without an error where they came as integers. */
export interface Rounded extends Quantized {
  readonly rounding?: RoundingError;
}

/** So many values are held in f32 at once. */
const CHUNK_VALUES = 1 << 18;

/** A q4 or q8 matrix [sum of the parts' rows, columns]. */
export function quantizedTensor(
  name: string,
  dtype: 'q4' | 'q8',
  columns: number,
  parts: readonly RowPart[],
): PackageTensor {
  const chunk = Math.max(1, Math.floor(CHUNK_VALUES / columns));
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const write = async (from: number, to: number, block: Uint8Array) => {
    const sums = { squares: 0, error: 0 };
    let rounded = false;
    const plane = qPlaneBytes(dtype, to - from, columns);
    let first = 0; // row of the tensor where the part begins
    for (const part of parts) {
      const end = Math.min(to, first + part.rows);
      for (let row = Math.max(from, first); row < end; row += chunk) {
        const { q, scale, rounding } = await part.read(
          row - first,
          Math.min(end, row + chunk) - first,
        );
        const scaleBytes = new Uint8Array(scale.buffer, scale.byteOffset, scale.byteLength);
        block.set(q, qPlaneBytes(dtype, row - from, columns));
        block.set(scaleBytes, plane + ((row - from) * columns * 2) / GROUP_SIZE);
        if (rounding === undefined) continue;
        rounded = true;
        sums.squares += rounding.squares;
        sums.error += rounding.error;
      }
      first += part.rows;
    }
    return rounded ? sums : null;
  };
  return { name, dtype, shape: [rows, columns], write };
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
