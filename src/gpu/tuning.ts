/**
 * How kernels are cut for an adapter: the one place that decides it. A driver in software runs the
 * invocations of a workgroup in turn, so barriers and idle lanes cost it much and scattered loads
 * nothing; a GPU wants many lanes and neighbouring loads.
 */
export interface Tuning {
  /** How matvec_q4, nearly all of a decode step, is cut; `calibrate` chooses it by measurement. */
  readonly matvec: MatvecCut;
  /** Tokens, 1 or 2, that an invocation of matvec_q4 takes of several, where it shares no row. */
  readonly matvecTokens: number;
  /** Most lanes that share the rows of a matrix; 1 needs no barrier. */
  readonly rowLanes: number;
  /** Invocations of a workgroup in matrix and elementwise kernels. */
  readonly workgroup: number;
  /** How A and B of the adapter are kept in f32; f16 keeps halves. */
  readonly factors: FactorType;
  /** How adapter_down is cut: most lanes for four of its few rows, invocations of a workgroup. */
  readonly adapterDown: { readonly lanes: number; readonly workgroup: number };
  /** Lanes that an attention workgroup aims at. */
  readonly attentionLanes: number;
  /** Most query heads, 1 to 4, of a decode workgroup that share the keys and values it reads. */
  readonly attentionTeam: number;
  /** Most slices of the cache that one token's attention is cut into, beside its heads. */
  readonly attentionSlices: number;
  /** Passes of at least this many tokens use matmul_q4; shorter ones walk tokens with matvec_q4. */
  readonly matmulFrom: number;
  /** Tokens of a prefill chunk: stop is answered and progress told between chunks. */
  readonly chunk: number;
  /** Decode steps under way at once: the next ones are queued before a token is read back. */
  readonly stepsInFlight: number;
  /** Largest buffer of weights; a larger matrix is cut into several. At most WebGPU's default. */
  readonly weightBytes: number;
}

/**
 * The package's halves as they are, or 16-bit integers with a unit for each component of the rank:
 * without shader-f16, drivers in software take longer over a half than over its product. `packFactor`
 * says what integers lose.
 */
export type FactorType = 'halves' | 'integers';

/** A way of running matvec_q4. */
export interface MatvecCut {
  /** Most lanes that share the rows of a matrix; 1 needs no sum over lanes. */
  readonly lanes: number;
  /** Invocations of a workgroup. */
  readonly workgroup: number;
  /** Neighbouring lanes that are known to shuffle among themselves, a power of two; 1: by workgroup memory. */
  readonly subgroup: number;
  /** Activations as 8-bit integers, with a scale for every 32: other numbers, a little. */
  readonly int8: boolean;
}

/** maxStorageBufferBindingSize that every adapter has. */
const defaultBinding = 128 << 20;

/** Measured on SwiftShader and Mesa lavapipe: lanes and tiles in workgroup memory only cost. */
export const softwareTuning: Tuning = {
  matvec: { lanes: 1, workgroup: 16, subgroup: 1, int8: false },
  matvecTokens: 2,
  rowLanes: 1,
  workgroup: 16,
  factors: 'integers',
  adapterDown: { lanes: 2, workgroup: 4 }, // small workgroups: all cores have some of the few rows
  attentionLanes: 16,
  attentionTeam: 4,
  attentionSlices: 1,
  matmulFrom: Infinity,
  chunk: 16,
  stepsInFlight: 2,
  weightBytes: defaultBinding,
};

/** Mesa unpacks weights so quickly that a second token in an invocation only costs registers. */
export const mesaTuning: Tuning = { ...softwareTuning, matvecTokens: 1 };

/**
 * For a device on which the page died: every kernel in its plainest form, and so little at a time
 * that neither a driver nor memory has much to bear.
 */
export const carefulTuning: Tuning = {
  ...softwareTuning,
  matvecTokens: 1,
  factors: 'halves',
  adapterDown: { lanes: 1, workgroup: 16 },
  attentionTeam: 1,
  chunk: 4,
  stepsInFlight: 1,
};

export const gpuTuning: Tuning = {
  matvec: { lanes: 32, workgroup: 64, subgroup: 1, int8: false },
  matvecTokens: 1,
  rowLanes: 32,
  workgroup: 64,
  factors: 'halves',
  adapterDown: { lanes: 32, workgroup: 64 },
  attentionLanes: 128,
  attentionTeam: 1, // more of them read less, and leave fewer workgroups: to be measured
  attentionSlices: 16,
  matmulFrom: 8,
  chunk: 64,
  stepsInFlight: 3,
  weightBytes: defaultBinding,
};

/** The cut for an adapter. */
export function tuningFor(info: GPUAdapterInfo): Tuning {
  if (!isSoftware(info)) return gpuTuning;
  return /llvmpipe|lavapipe/.test(namesOf(info)) ? mesaTuning : softwareTuning;
}

/** Whether an adapter is a driver in software: they call themselves fallback, or by their names. */
export function isSoftware(info: GPUAdapterInfo): boolean {
  return info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|software/.test(namesOf(info));
}

function namesOf({ vendor, architecture, description }: GPUAdapterInfo): string {
  return `${vendor} ${architecture} ${description}`.toLowerCase();
}

/**
 * Lanes for a row of `units` loads: a power of two, at most `most`, with two loads for each lane
 * where the row is long enough.
 */
export function lanesFor(most: number, units: number): number {
  let lanes = 1;
  while (lanes * 2 <= most && lanes * 4 <= units) lanes *= 2;
  return lanes;
}
