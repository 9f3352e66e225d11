import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quantizeQ4, quantizeQ8 } from '../quantize.ts';
import vectors from '../quantize-vectors.json' with { type: 'json' };
import { randomNumbers } from '../testing.ts';
import { assemble } from './assemble.ts';
import { fastQ4, fastQ8 } from './quantize.ts';

/** Bytes of the plain quantizers and of those in WebAssembly, for rows of 32 values. */
function expectSame(values: Float32Array): void {
  const rows = values.length / 32;
  const pairs = [
    [fastQ4(values, rows, 32, 'search'), quantizeQ4(values, rows, 32, 'search')],
    [fastQ4(values, rows, 32, 'naive'), quantizeQ4(values, rows, 32, 'naive')],
    [fastQ8(values, rows, 32), quantizeQ8(values, rows, 32)],
  ] as const;
  for (const [fast, plain] of pairs) {
    expect(fast.scale).toEqual(plain.scale);
    expect(fast.q).toEqual(plain.q);
    const { squares = NaN, error = NaN } = plain.rounding ?? {};
    expect(Math.abs((fast.rounding?.squares ?? NaN) - squares)).toBeLessThanOrEqual(1e-9 * squares);
    expect(Math.abs((fast.rounding?.error ?? NaN) - error)).toBeLessThanOrEqual(1e-9 * squares);
  }
}

describe('the quantizers in WebAssembly give the bytes of the plain ones', () => {
  it('for the vectors that training has too', () => {
    expectSame(Float32Array.from(vectors.values));
  });

  it.each([1e-8, 3e-6, 1e-4, 0.02, 1, 1000, 60000])('for bell-shaped weights around %f', (size) => {
    const random = randomNumbers(Math.round(1 / size) + 3);
    const bell = () => (random() + random() + random() + random()) / 4;
    expectSame(Float32Array.from({ length: 32 * 2000 }, () => size * bell()));
  });

  it('for more values than a call takes', () => {
    const random = randomNumbers(8);
    expectSame(Float32Array.from({ length: (1 << 18) + 96 }, () => 0.05 * random()));
  });

  it('for any group', () => {
    const value = fc.oneof(
      fc.float({ min: -65504, max: 65504, noNaN: true }),
      fc.float({ min: Math.fround(-1e-6), max: Math.fround(1e-6), noNaN: true }),
      fc.constantFrom(0, -0, 1, -1, 7, -8, 0.5, 2 ** -14, -(2 ** -24), 2 ** -149, 65504, -65504),
    );
    const group = fc.array(value, { minLength: 32, maxLength: 32 });
    fc.assert(
      fc.property(group, (values) => expectSame(Float32Array.from(values))),
      { numRuns: 2000 },
    );
  });

  it('for groups of zeros, of one value, and of equal sizes', () => {
    for (const value of [0, 1, -1, 0.3, 65504, 2 ** -24]) {
      expectSame(new Float32Array(64).fill(value));
      expectSame(Float32Array.from({ length: 32 }, (_, i) => (i === 31 ? value : 0)));
      expectSame(Float32Array.from({ length: 32 }, (_, i) => (i % 2 === 0 ? value : -value)));
    }
  });
});

describe('the assembler', () => {
  it.each([
    ['(func $a (i32.nop))', 'no instruction i32.nop'],
    ['(func $a (local.set $b (i32.const 1)))', 'no local $b'],
    ['(func $a (br_if $b (i32.const 1)))', 'no label $b'],
    ['(func $a (local $b f32))', 'no type f32'],
    ['(memory 1)', 'only functions are known'],
    ['(func $a', 'a bracket too few'],
    ['(func $a))', 'a bracket too many'],
  ])('does not take %s', (source, message) => {
    expect(() => assemble(source, 1)).toThrow(message);
  });
});
