/** One line of a benchmark's table. */
export interface Row {
  readonly name: string;
  readonly ours: number;
  readonly peer: number | null;
  readonly peerName: string | null;
  readonly unit: string;
  /** How many times as good ours is as the peer; above 1 is better. */
  readonly ratio: number | null;
}

/** What a run is held against. */
export interface Bar {
  readonly what: string;
  readonly measured: number;
  readonly bar: string;
  readonly met: boolean;
}

/** A whole run: where, what, and every row. */
export interface BenchResult {
  readonly date: string;
  readonly machine: Readonly<Record<string, string>>;
  readonly model: Readonly<Record<string, number | string>>;
  readonly command: string;
  /** Largest difference of a logit or product from ours, as a part of their root mean square. */
  readonly differences: Readonly<Record<string, number>>;
  readonly rows: readonly Row[];
  readonly bars?: readonly Bar[];
  /** Every measurement in milliseconds, so that spreads can be seen. */
  readonly samples: Readonly<Record<string, readonly number[]>>;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) throw new Error('nothing was measured');
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

export function round(value: number, digits = 4): number {
  return Number(value.toPrecision(digits));
}

/** Where less is better: milliseconds. */
export function timeRow(name: string, ours: number, peer?: number, peerName?: string): Row {
  return row(name, 'ms', ours, peer, peerName, (peer ?? NaN) / ours);
}

/** Where more is better: tokens a second, GFLOP/s. */
export function rateRow(
  name: string,
  unit: string,
  ours: number,
  peer?: number,
  peerName?: string,
): Row {
  return row(name, unit, ours, peer, peerName, ours / (peer ?? NaN));
}

function row(
  name: string,
  unit: string,
  ours: number,
  peer?: number,
  peerName?: string,
  ratio = NaN,
): Row {
  return {
    name,
    ours: round(ours),
    peer: peer === undefined ? null : round(peer),
    peerName: peerName ?? null,
    unit,
    ratio: Number.isNaN(ratio) ? null : round(ratio, 3),
  };
}

/** The largest difference as a part of the expected values' root mean square. */
export function relativeDifference(actual: readonly number[], expected: readonly number[]): number {
  if (actual.length === 0 || actual.length > expected.length) return Infinity;
  let [worst, squares] = [0, 0];
  actual.forEach((value, i) => {
    const error = Math.abs(value - (expected[i] ?? NaN));
    if (!(error <= worst)) worst = error;
    squares += (expected[i] ?? 0) ** 2;
  });
  return worst / Math.sqrt(squares / actual.length);
}
