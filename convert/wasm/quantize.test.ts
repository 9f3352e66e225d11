import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quantizeQ4, quantizeQ8 } from '../quantize.ts';
import vectors from '../quantize-vectors.json' with { type: 'json' };
import { randomNumbers } from '../testing.ts';
import { assemble } from './assemble.ts';
import { fastQ4, fastQ8, roundBytes, type Way } from './quantize.ts';

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

describe('bytes of bf16', () => {
  const ways: readonly Way[] = ['search', 'naive', 'eight'];

  /** Rounds bits of bf16 as they are, and as the f32 that they stand for. */
  function both(way: Way, bits: Uint16Array) {
    const wide = new Uint8Array(Uint32Array.from(bits, (one) => one << 16).buffer);
    const of = (type: 'bf16' | 'f32', bytes: Uint8Array) => {
      const q = new Uint8Array(way === 'eight' ? bits.length : bits.length / 2);
      const scale = new Uint8Array(bits.length / 16);
      return { ...roundBytes(way, type, bytes, q, scale), q, scale };
    };
    return [of('bf16', new Uint8Array(bits.slice().buffer)), of('f32', wide)] as const;
  }

  it.each(ways)('become what their values become (%s)', (way) => {
    const random = randomNumbers(17);
    const any = Uint16Array.from({ length: (1 << 18) + 320 }, () => {
      return ((random() < 0 ? 0x8000 : 0) | (0x3000 + 0x1600 * Math.abs(random()))) & 0xffff;
    });
    const [narrow, wide] = both(way, any);
    expect(Buffer.from(narrow.q).equals(wide.q)).toBe(true);
    expect(Buffer.from(narrow.scale).equals(wide.scale)).toBe(true);
    expect({ ...narrow, q: 0, scale: 0 }).toEqual({ ...wide, q: 0, scale: 0 });
  });

  it('tell their largest size, NaN above infinity, wherever it stands', () => {
    for (const [value, expected] of [
      [0xc000, 0x40000000], // -2
      [0x477f, 0x477f0000], // the largest bf16 within f16
      [0x7f80, 0x7f800000],
      [0xff80, 0x7f800000],
      [0xffc1, 0x7fc10000],
    ] as const) {
      for (const place of [0, 1, 30, 31, 32, 63]) {
        const bits = new Uint16Array(64).fill(0x3f80);
        bits[place] = value;
        for (const { largest } of both('eight', bits)) expect(largest).toBe(expected);
      }
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
