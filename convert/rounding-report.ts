import type { TensorInfo } from '../src/format/manifest.ts';
import type { WrittenShard } from './shards.ts';

/** What rounding did to a tensor, or to all tensors of a class (`layers.*.down`). */
export interface RoundingRow {
  readonly name: string;
  readonly dtype: TensorInfo['dtype'];
  readonly parameters: number;
  /** Root of the mean squared error, as a part of the root of the mean square of the weights. */
  readonly error: number;
}

export interface RoundingReport {
  readonly tensors: readonly RoundingRow[];
  readonly classes: readonly RoundingRow[];
}

interface Sums {
  readonly dtype: TensorInfo['dtype'];
  parameters: number;
  squares: number;
  error: number;
}

/** Adds up what the files of a base say; tensors that came as integers have no error and no row. */
export function roundingReport(
  tensors: readonly TensorInfo[],
  written: readonly WrittenShard[],
): RoundingReport {
  const byTensor = new Map<string, Sums>();
  const byClass = new Map<string, Sums>();
  const counted = new Set<TensorInfo>();
  for (const { tensor: index, error } of written.flatMap(({ errors }) => errors)) {
    const tensor = tensors[index];
    if (tensor === undefined) throw new RangeError(`tensor ${index} of ${tensors.length}`);
    const { name, dtype, shape } = tensor;
    const parameters = counted.has(tensor) ? 0 : shape.reduce((product, one) => product * one, 1);
    counted.add(tensor);
    for (const [sums, key] of [
      [byTensor, name],
      [byClass, name.replace(/\d+/, '*')],
    ] as const) {
      const sum = sums.get(key) ?? { dtype, parameters: 0, squares: 0, error: 0 };
      sum.parameters += parameters;
      sum.squares += error.squares;
      sum.error += error.error;
      sums.set(key, sum);
    }
  }
  return { tensors: rowsOf(byTensor), classes: rowsOf(byClass) };
}

function rowsOf(sums: ReadonlyMap<string, Sums>): RoundingRow[] {
  return [...sums].map(([name, { dtype, parameters, squares, error }]) => ({
    name,
    dtype,
    parameters,
    error: squares === 0 ? 0 : Math.sqrt(error / squares),
  }));
}

/** The classes as lines of text, with the worst tensor of each. */
export function reportLines({ tensors, classes }: RoundingReport): string[] {
  const width = Math.max(0, ...classes.map(({ name }) => name.length));
  return classes.map(({ name, dtype, error }) => {
    const own = tensors.filter((one) => one.name.replace(/\d+/, '*') === name);
    const worst = own.reduce((a, b) => (b.error > a.error ? b : a));
    const most = own.length > 1 ? `, at most ${percent(worst.error)} (${worst.name})` : '';
    return `  ${name.padEnd(width)}  ${dtype}  error ${percent(error)}${most}`;
  });
}

function percent(share: number): string {
  return `${(100 * share).toFixed(3)} %`;
}
