import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bfloatsToFloats,
  bfloatToFloat,
  dequantizeBlock,
  floatToHalf,
  halfToFloat,
  halvesToFloats,
  packQ4,
  packQ8,
  quantizedBlock,
  unpackQ4,
  unpackQ8,
  type Quantized,
} from './dtype.ts';

describe('f16', () => {
  it('keeps all 65,536 values', () => {
    for (let bits = 0; bits < 0x10000; bits++) {
      const value = halfToFloat(bits);
      if (Number.isNaN(value)) expect(Number.isNaN(halfToFloat(floatToHalf(value)))).toBe(true);
      else if (floatToHalf(value) !== bits) expect.fail(`${bits} came back as another`);
    }
  });

  it.each([
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [-Infinity, 0xfc00],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000], // half-way to the smallest: even is zero
    [1.5 * 2 ** -24, 0x0002],
    [2 ** -14 - 2 ** -25, 0x0400], // rounds up into the normal numbers
    [1 + 2 ** -11, 0x3c00], // ties go to even
    [1 + 3 * 2 ** -11, 0x3c02],
    [2048 - 0.5, 0x6800],
    [-0, 0x8000],
  ])('writes %f as %i', (value, bits) => {
    expect(floatToHalf(value)).toBe(bits);
  });

  it('takes the nearest, and of two the even', () => {
    fc.assert(
      fc.property(fc.double({ min: -65504, max: 65504, noNaN: true }), (value) => {
        const bits = floatToHalf(value);
        const error = Math.abs(halfToFloat(bits) - value);
        for (const other of [bits - 1, bits + 1]) {
          const distance = Math.abs(halfToFloat(other & 0xffff) - value);
          if (distance < error) return false;
          if (distance === error && bits % 2 === 1) return false;
        }
        return true;
      }),
    );
  });

  it('reads bf16 as the upper half of an f32', () => {
    expect(bfloatToFloat(0x3f80)).toBe(1);
    expect(bfloatToFloat(0xc2f7)).toBe(-123.5);
    expect(bfloatToFloat(0xff80)).toBe(-Infinity);
  });

  it('are the same one by one and all at once', () => {
    const all = Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits);
    expect(halvesToFloats(all)).toEqual(Float32Array.from(all, halfToFloat));
    const { values, largest } = bfloatsToFloats(all);
    expect(values).toEqual(Float32Array.from(all, bfloatToFloat));
    expect(largest).toBe(0x7fff);
    expect(bfloatsToFloats(Uint16Array.of(0x3f80, 0xc000, 0)).largest).toBe(0x4000);
  });
});

/** Any integers and any finite scales: what a package may hold. */
function quantized(dtype: 'q4' | 'q8') {
  return fc
    .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 3 }))
    .chain(([rows, groups]) => {
      const size = (rows * groups * 32) / (dtype === 'q4' ? 2 : 1);
      const scales = { minLength: rows * groups, maxLength: rows * groups };
      return fc.record({
        rows: fc.constant(rows),
        columns: fc.constant(groups * 32),
        q: fc.uint8Array({ minLength: size, maxLength: size }),
        scale: fc.uint16Array({ ...scales, max: 0x7bff }),
      });
    });
}

function copy({ q, scale }: { q: Uint8Array; scale: Uint16Array }): Quantized {
  return { q: new Uint8Array(q), scale: new Uint16Array(scale) };
}

describe('packing', () => {
  it('puts the first element into the low nibble, and -8 on the value of largest size', () => {
    const values = new Float32Array(32);
    values[0] = 0.5;
    values[1] = -4;
    const { q, scale } = packQ4(values, 1, 32);
    expect(halfToFloat(scale[0] ?? 0)).toBe(0.5);
    expect(Array.from(q.slice(0, 2))).toEqual([0x09, 0x88]);
    expect(Array.from(unpackQ4({ q, scale }, 1, 32).slice(0, 3))).toEqual([0.5, -4, 0]);
  });

  it('stays within half a step of every value', () => {
    const matrix = fc.integer({ min: 1, max: 4 }).chain((rows) =>
      fc.float32Array({
        minLength: rows * 64,
        maxLength: rows * 64,
        min: -100,
        max: 100,
        noNaN: true,
      }),
    );
    fc.assert(
      fc.property(matrix, (values) => {
        const rows = values.length / 64;
        const four = packQ4(values, rows, 64);
        const eight = packQ8(values, rows, 64);
        const back4 = unpackQ4(four, rows, 64);
        const back8 = unpackQ8(eight, rows, 64);
        return values.every((value, i) => {
          const step4 = Math.abs(halfToFloat(four.scale[i >> 5] ?? 0));
          const step8 = halfToFloat(eight.scale[i >> 5] ?? 0);
          // The value opposite to the extreme one has no +8; 2^-11 is the rounding of the scale,
          // 2^-21 what is lost where the scale is below the smallest f16.
          const limit4 = step4 * (1 + 2 ** -7) + 2 ** -21;
          const limit8 = step8 * (0.5 + 2 ** -4) + 2 ** -17;
          return (
            Math.abs((back4[i] ?? 0) - value) <= limit4 &&
            Math.abs((back8[i] ?? 0) - value) <= limit8
          );
        });
      }),
    );
  });

  it('gives all-zero groups back as zeros', () => {
    const zeros = new Float32Array(64);
    expect(unpackQ4(packQ4(zeros, 2, 32), 2, 32)).toEqual(zeros);
    expect(unpackQ8(packQ8(zeros, 2, 32), 2, 32)).toEqual(zeros);
  });

  it.each(['q4', 'q8'] as const)('reads a %s block as its planes', (dtype) => {
    fc.assert(
      fc.property(quantized(dtype), ({ rows, columns, ...planes }) => {
        const packed = copy(planes);
        const block = quantizedBlock(dtype, packed, rows, columns);
        expect(block.length % 16).toBe(0);
        const unpack = dtype === 'q4' ? unpackQ4 : unpackQ8;
        // From a shard a block starts anywhere in a buffer, so views of it are not aligned.
        const inside = Buffer.alloc(block.length + 3);
        inside.set(block, 3);
        expect(dequantizeBlock(dtype, inside.subarray(3), rows, columns)).toEqual(
          unpack(packed, rows, columns),
        );
      }),
    );
  });

  it('comes back from values to the same integers where the extreme value is on the grid', () => {
    fc.assert(
      fc.property(quantized('q4'), ({ rows, columns, q, scale }) => {
        for (let group = 0; group < scale.length; group++) {
          q[group * 16] = (q[group * 16] ?? 0) & 0xf0; // -8 comes first in every group
          scale[group] = Math.max(scale[group] ?? 0, 0x0400); // no subnormal
        }
        const packed = copy({ q, scale });
        const again = packQ4(unpackQ4(packed, rows, columns), rows, columns);
        expect(again).toEqual(packed);
      }),
    );
  });

  it('reads f32 and f16 blocks and refuses too few bytes', () => {
    const f16 = Uint8Array.of(0x00, 0x3c, 0x00, 0xc0, ...new Uint8Array(12));
    expect(dequantizeBlock('f16', f16, 2, 1)).toEqual(Float32Array.of(1, -2));
    const f32 = new Uint8Array(Float32Array.of(0.1, 2, 3, 4).buffer);
    expect(dequantizeBlock('f32', f32, 2, 2)).toEqual(Float32Array.of(0.1, 2, 3, 4));
    expect(() => dequantizeBlock('f32', f32, 5, 1)).toThrow(RangeError);
    expect(() => packQ4(new Float32Array(33), 1, 33)).toThrow(RangeError);
  });
});
