import { describe, expect, it } from 'vitest';
import { floatToHalf, halfToFloat } from '../format/dtype.ts';
import { packFactor, type Factor } from './factors.ts';
import { testNumbers } from './testing.ts';

const halvesOf = (values: ArrayLike<number>): Uint16Array => Uint16Array.from(values, floatToHalf);

/** The numbers that the kernels read. */
function unpacked({ bits, units }: Factor, along: 'rows' | 'columns'): number[] {
  const length = bits.length / units.length;
  return [...new Int16Array(bits.buffer)].map((integer, i) => {
    const component = along === 'rows' ? Math.floor(i / length) : i % units.length;
    return integer * 2 ** 16 * (units[component] ?? NaN);
  });
}

describe.each(['rows', 'columns'] as const)('a factor with components along %s', (along) => {
  const components = 5;
  const length = 64;
  const componentOf = (i: number): number =>
    along === 'rows' ? Math.floor(i / length) : i % components;

  it('keeps large numbers of a component and rounds small ones to 2^-15 of its largest', () => {
    const scales = [1e-4, 3, 0.02, 900, 2 ** -24];
    const halves = halvesOf(
      testNumbers(components * length, 1).map((v, i) => v * (scales[componentOf(i)] ?? 0)),
    );
    const wanted = Array.from(halves, halfToFloat);
    const kept = unpacked(packFactor(halves, components, along), along);
    let rounded = 0;
    for (let component = 0; component < components; component++) {
      const own = wanted.map((_, i) => i).filter((i) => componentOf(i) === component);
      const largest = Math.max(...own.map((i) => Math.abs(wanted[i] ?? 0)));
      for (const i of own) {
        const [value, now] = [wanted[i] ?? NaN, kept[i] ?? NaN];
        if (Math.abs(value) * 16 >= largest) expect(now).toBe(value);
        expect(Math.abs(now - value)).toBeLessThanOrEqual(largest * 2 ** -15);
        if (now !== value) rounded++;
      }
    }
    expect(rounded).toBeGreaterThan(0); // else the bound above says nothing
  });

  it('keeps every half alone in its component, the largest and the smallest too', () => {
    const ends = [65504, -65504, 2 ** -24, -(2 ** -24), 2 ** -14, 1, -1, 32752, 0];
    const halves = halvesOf(ends);
    expect(unpacked(packFactor(halves, ends.length, along), along)).toEqual(
      ends.map((value) => value + 0),
    );
  });
});
