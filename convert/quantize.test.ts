import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { floatToHalf, halfToFloat, packQ4, unpackQ4, unpackQ8 } from '../src/format/dtype.ts';
import { bitsOfHalf, nearestHalf, normaliseRows, quantizeQ4, quantizeQ8 } from './quantize.ts';
import vectors from './quantize-vectors.json' with { type: 'json' };
import { randomNumbers } from './testing.ts';

const group = fc.float32Array({ minLength: 32, maxLength: 32, min: -50, max: 50, noNaN: true });

function squaredError(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + (value - (b[i] ?? NaN)) ** 2, 0);
}

/** Numbers like those of trained weights: bell-shaped, with an outlier now and then. */
function weights(count: number, seed: number): Float32Array {
  const random = randomNumbers(seed);
  return Float32Array.from({ length: count }, (_, i) => {
    const bell = random() + random() + random() + random();
    return 0.05 * bell * (i % 61 === 0 ? 3 : 1);
  });
}

describe('q4', () => {
  it('is never worse than putting the largest value on -8', () => {
    fc.assert(
      fc.property(group, (values) => {
        const ours = squaredError(values, unpackQ4(quantizeQ4(values, 1, 32), 1, 32));
        const plain = squaredError(values, unpackQ4(packQ4(values, 1, 32), 1, 32));
        return ours <= plain * (1 + 1e-9);
      }),
    );
  });

  it('finds the best of its forty scales, measured as they are stored', () => {
    fc.assert(
      fc.property(group, (values) => {
        const extreme = values.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
        let least = squaredError(values, new Float32Array(32)); // scale 0
        for (let i = 0; i < 20; i++) {
          for (const base of [extreme / -8, Math.abs(extreme) / 7]) {
            const step = halfToFloat(floatToHalf(base * ((52 - i) / 50)));
            if (step === 0) continue;
            const back = values.map((x) => Math.min(Math.max(Math.round(x / step), -8), 7) * step);
            least = Math.min(least, squaredError(values, back));
          }
        }
        const ours = squaredError(values, unpackQ4(quantizeQ4(values, 1, 32), 1, 32));
        expect(ours).toBeLessThanOrEqual(least * (1 + 1e-6) + 1e-12);
      }),
    );
  });

  it('gives weights that are on its grid back exactly', () => {
    const grid = unpackQ4(packQ4(weights(64 * 32, 5), 64, 32), 64, 32);
    expect(unpackQ4(quantizeQ4(grid, 64, 32), 64, 32)).toEqual(grid);
  });

  it('lowers the error of bell-shaped weights by more than a tenth', () => {
    const values = weights(256 * 64, 9);
    const plain = squaredError(values, unpackQ4(packQ4(values, 256, 64), 256, 64));
    const ours = squaredError(values, unpackQ4(quantizeQ4(values, 256, 64), 256, 64));
    expect(ours).toBeLessThan(0.9 * plain);
  });

  it('keeps zeros and numbers too small for any scale as zeros', () => {
    const values = new Float32Array(64);
    values[40] = 1e-9;
    expect(unpackQ4(quantizeQ4(values, 2, 32), 2, 32)).toEqual(new Float32Array(64));
  });
});

describe('q8', () => {
  it('stays within half a step, and a little for the rounding of the scale', () => {
    fc.assert(
      fc.property(group, (values) => {
        const packed = quantizeQ8(values, 1, 32);
        const step = halfToFloat(packed.scale[0] ?? 0);
        const back = unpackQ8(packed, 1, 32);
        return values.every(
          (value, i) => Math.abs(value - (back[i] ?? NaN)) <= step * (0.5 + 2 ** -4) + 2 ** -17,
        );
      }),
    );
  });

  it('puts the largest value on 127 or -127', () => {
    const values = new Float32Array(32);
    values[3] = -12.7;
    values[4] = 6.35;
    expect(Array.from(quantizeQ8(values, 1, 32).q.slice(3, 6))).toEqual([1, 192, 128]);
  });
});

describe('the rule that training shares', () => {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

  it.each([
    ['q4', quantizeQ4],
    ['q8', quantizeQ8],
  ] as const)('gives the same bytes in %s', (dtype, quantize) => {
    const { rows, columns, values } = vectors;
    const made = quantize(Float32Array.from(values), rows, columns);
    expect(hex(made.q)).toBe(vectors[dtype].q);
    expect(hex(new Uint8Array(made.scale.buffer))).toBe(vectors[dtype].scale);
  });
});

describe('rows of the head', () => {
  it('get unit length, also the long and the short ones', () => {
    const values = Float32Array.from([3, 4, 3e-6, 4e-6, -300, 400]);
    normaliseRows(values, 3, 2);
    const expected = [0.6, 0.8, 0.6, 0.8, -0.6, 0.8];
    values.forEach((value, i) => expect(value).toBeCloseTo(expected[i] ?? NaN, 6));
  });

  it('stay zero where they were', () => {
    const values = new Float32Array(4);
    normaliseRows(values, 2, 2);
    expect(values).toEqual(new Float32Array(4));
  });
});

describe('halves at speed', () => {
  it('are those of the reference, for every f16 and what lies between two', () => {
    const wrong: number[] = [];
    for (let bits = 0; bits < 0x7c00; bits++) {
      const value = halfToFloat(bits);
      const next = halfToFloat(Math.min(bits + 1, 0x7bff));
      for (const one of [
        value,
        (value + next) / 2,
        value * (1 + 2 ** -40),
        next * (1 - 2 ** -40),
      ]) {
        for (const signed of [one, -one]) {
          const expected = floatToHalf(signed);
          const half = halfToFloat(expected);
          const same = nearestHalf(signed) === half; // zeros of either sign
          if (!same || bitsOfHalf(half) !== (half === 0 ? 0 : expected)) wrong.push(signed);
        }
      }
    }
    expect(wrong).toEqual([]);
  });
});
