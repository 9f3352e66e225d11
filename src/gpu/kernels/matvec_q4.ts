import wgsl from '#shaders/matvec_q4.wgsl?raw';
import { gridOf, type Gpu, type Step } from '../gpu.ts';
import { lanesFor } from '../tuning.ts';

/** Columns of x that a workgroup keeps for itself: 8 KiB of the 16 KiB that every GPU has. */
const mostStaged = 2048;
/** Groups of 32 that are kept as bytes, 40 bytes each. */
const mostByteGroups = 224;
/** The feature of WGSL that int8 needs. */
export const BYTE_PRODUCTS = 'packed_4x8_integer_dot_product';

/** A row block of a 4-bit matrix, and where its product goes. */
export interface MatrixQ4Shape {
  readonly columns: number; // K
  readonly rows: number; // N, rows of this block
  readonly from: number; // the first of them in the matrix
  readonly outputs: number; // rows of the matrix
  readonly add: boolean; // y += W x instead of y = W x
}

/** Second half of the MoE-Adapter, B z, for linears that stand in one matrix. */
export interface AdapterRows {
  readonly padded: number; // P, columns of B, a multiple of 4
  readonly from: number; // the row of the matrix where B begins
  readonly rows: number; // of B
  /** The rows of B where the second and the third linear begin; `rows` where there is none. */
  readonly starts: readonly [number, number];
  readonly linears: number; // in z
}

/** What is fused with the product. */
export interface MatvecQ4Fusion {
  /** Epsilon of the RMS norm of x, whose weight is bound then; x is f32. */
  readonly normEps?: number;
  readonly adapter?: AdapterRows;
  /** y[n] = silu(row n) * row (n + N/2) instead of all rows: elem [T, N/2]. */
  readonly silu?: boolean;
  /** For passes of several tokens: an invocation takes as many as the tuning says. Not with a norm. */
  readonly several?: boolean;
}

export interface MatvecQ4Buffers {
  readonly params: GPUBuffer;
  readonly weights: GPUBuffer; // q4 [N, K]
  readonly x: GPUBuffer; // elem [T, K]; with a norm f32
  readonly norm?: GPUBuffer; // f32 [K], weight of the norm
  readonly b?: GPUBuffer; // factor4 [rows of B, P]
  readonly z?: GPUBuffer; // f32 [T, linears, P]; with a norm that of adapter_down with the same norm
  readonly y: GPUBuffer; // f32 [T, outputs]; with silu elem [T, N/2]
}

/**
 * y[t, from + n] (+)= W[n] . norm(x[t]) + B[n] . z[t], a token or two at a time: for decode and
 * for short passes. What is not fused is left out.
 * @throws RangeError for silu over an odd number of rows; Error for int8 where WGSL has no such product
 */
export async function createMatvecQ4(
  gpu: Gpu,
  { columns, rows, from, outputs, add }: MatrixQ4Shape,
  { normEps, adapter, silu = false, several = false }: MatvecQ4Fusion = {},
): Promise<(buffers: MatvecQ4Buffers) => Step> {
  if (silu && rows % 2 === 1) throw new RangeError(`gate and up need even rows, not ${rows}`);
  const { lanes, workgroup: WG, subgroup, int8 } = gpu.tuning.matvec;
  if (int8 && !gpu.language.has(BYTE_PRODUCTS)) {
    throw new Error(`int8 needs ${BYTE_PRODUCTS}, which this WebGPU does not have`);
  }
  const LANES = lanesFor(lanes, columns / 32);
  const SUBGROUP = Math.min(subgroup, LANES);
  const alone = LANES === 1 && !int8 && normEps === undefined;
  const tokens = several && alone ? gpu.tuning.matvecTokens : 1;
  const rounds = Math.ceil(columns / 32 / mostByteGroups);
  const kernel = await gpu.kernel(
    'matvec_q4',
    wgsl,
    {
      K: columns,
      N: rows,
      FROM: from,
      Y: silu ? rows / 2 : outputs,
      ADD: Number(add),
      SILU: Number(silu),
      ...(normEps === undefined
        ? {}
        : { NORM: 1, EPS: normEps, STAGE: columns <= mostStaged && !int8 ? columns / 4 : 1 }),
      ...(adapter === undefined
        ? {}
        : { ...adapterConstants(adapter), ALIGNED: aligned(adapter, from, silu ? rows / 2 : 0) }),
      TOKENS: tokens,
      ...(int8 ? { INT8: 1, BYTES: Math.ceil(columns / 32 / rounds) } : {}),
      LANES,
      SUBGROUP,
      WG,
    },
    {
      input: normEps === undefined ? 'elem' : 'f32',
      output: silu ? 'elem' : 'f32',
      subgroups: SUBGROUP > 1,
      dot8: int8,
    },
  );
  const grid = gridOf(Math.ceil(rows / (silu ? 8 : 4) / (WG / LANES)), tokens);
  // A binding needs a buffer also where the shader does not read it.
  return ({ params, weights, x, norm = weights, b = weights, z = weights, y }) =>
    kernel.bind([params, weights, x, norm, b, z, y], grid);
}

/** 1 where a team's four rows always belong to the same linear. */
function aligned({ from, rows, starts }: AdapterRows, first: number, pair: number): number {
  const borders = [pair, from - first, rows, ...starts];
  return Number(borders.every((row) => row % 4 === 0));
}

/** Overrides of B z, the same in adapter_up. */
export function adapterConstants({ padded, from, rows, starts, linears }: AdapterRows) {
  const [MIDDLE, LAST] = starts;
  return { P: padded, B_FROM: from, B_ROWS: rows, MIDDLE, LAST, LINEARS: linears };
}
