import { halvesToFloats } from '../format/dtype.ts';

/** The adapter's A or B as drivers in software read it: signed 16-bit integers. */
export interface Factor {
  readonly bits: Uint16Array<ArrayBuffer>; // two's complement, in the order of the halves
  /** Value of 1 in the upper half of a word, where `of_factor4` leaves the integers; one per component. */
  readonly units: Float32Array<ArrayBuffer>;
}

const LARGEST = 2 ** 15 - 1;

/**
 * A, [components, K], or B, [N, components], where a component is one of the rank's: it has a unit of
 * its own, a power of two. A number within a factor of 16 of its component's largest stays as it is,
 * a smaller one moves by at most 2^-15 of the largest.
 * @param halves finite
 */
export function packFactor(
  halves: Uint16Array,
  components: number,
  along: 'rows' | 'columns',
): Factor {
  const values = halvesToFloats(halves);
  const length = values.length / components;
  const componentOf = (i: number): number =>
    along === 'rows' ? Math.floor(i / length) : i % components;
  const steps = new Float64Array(components);
  values.forEach((value, i) => {
    const component = componentOf(i);
    steps[component] = Math.max(steps[component] ?? 0, Math.abs(value));
  });
  steps.forEach((largest, i) => {
    steps[i] = largest === 0 ? 1 : 2 ** Math.ceil(Math.log2(largest / LARGEST));
  });
  const bits = Uint16Array.from(values, (value, i) =>
    Math.round(value / (steps[componentOf(i)] ?? 1)),
  );
  return { bits, units: Float32Array.from(steps, (step) => step / 2 ** 16) };
}
