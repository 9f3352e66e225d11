import { halfToFloat, bfloatToFloat } from '../../src/format/dtype.ts';

/**
 * Numbers as ggml stores them, to f32. Layouts: ggml-common.h of llama.cpp (block_q4_0, block_q8_0,
 * block_q6_K), all little-endian, `d` an f16.
 */

export interface GgmlType {
  /** Values of a block. */
  readonly values: number;
  /** Bytes of a block. */
  readonly bytes: number;
  /** Writes the values of the block at byte `at` to `out` from `to` on. */
  readonly decode: (view: DataView, at: number, out: Float32Array, to: number) => void;
}

const f32: GgmlType = {
  values: 1,
  bytes: 4,
  decode: (view, at, out, to) => (out[to] = view.getFloat32(at, true)),
};

const f16: GgmlType = {
  values: 1,
  bytes: 2,
  decode: (view, at, out, to) => (out[to] = halfToFloat(view.getUint16(at, true))),
};

const bf16: GgmlType = {
  values: 1,
  bytes: 2,
  decode: (view, at, out, to) => (out[to] = bfloatToFloat(view.getUint16(at, true))),
};

/** d, then 16 bytes: value i is in the low nibble of byte i, value i + 16 in the high one. */
const q4: GgmlType = {
  values: 32,
  bytes: 18,
  decode: (view, at, out, to) => {
    const d = halfToFloat(view.getUint16(at, true));
    for (let i = 0; i < 16; i++) {
      const pair = view.getUint8(at + 2 + i);
      out[to + i] = ((pair & 15) - 8) * d;
      out[to + i + 16] = ((pair >> 4) - 8) * d;
    }
  },
};

/** d, then 32 signed bytes. */
const q8: GgmlType = {
  values: 32,
  bytes: 34,
  decode: (view, at, out, to) => {
    const d = halfToFloat(view.getUint16(at, true));
    for (let i = 0; i < 32; i++) out[to + i] = view.getInt8(at + 2 + i) * d;
  },
};

/**
 * 256 values in 16 groups: 128 bytes of low nibbles, 64 of two high bits, 16 signed scales, d.
 * What llama-quantize gives the head, whatever the rest of a file is.
 */
const q6k: GgmlType = {
  values: 256,
  bytes: 210,
  decode: (view, at, out, to) => {
    const d = halfToFloat(view.getUint16(at + 208, true));
    for (let i = 0; i < 256; i++) {
      const half = i >> 7; // 128 values share 64 bytes of low and 32 of high bits
      const part = (i >> 5) & 3; // and these are four times 32
      const place = i & 31;
      const nibbles = view.getUint8(at + 64 * half + 32 * (part & 1) + place);
      const low = part < 2 ? nibbles & 15 : nibbles >> 4;
      const high = (view.getUint8(at + 128 + 32 * half + place) >> (2 * part)) & 3;
      const scale = view.getInt8(at + 192 + (i >> 4));
      out[to + i] = d * scale * ((low | (high << 4)) - 32);
    }
  },
};

/** By the number that a file has for it (enum ggml_type); what is not read has a name only. */
export const ggmlTypes: Readonly<Record<number, GgmlType>> = {
  0: f32,
  1: f16,
  2: q4,
  8: q8,
  14: q6k,
  30: bf16,
};

const NAMES: Readonly<Record<number, string>> = {
  ...{ 0: 'F32', 1: 'F16', 2: 'Q4_0', 3: 'Q4_1', 6: 'Q5_0', 7: 'Q5_1', 8: 'Q8_0', 9: 'Q8_1' },
  ...{ 10: 'Q2_K', 11: 'Q3_K', 12: 'Q4_K', 13: 'Q5_K', 14: 'Q6_K', 15: 'Q8_K', 16: 'IQ2_XXS' },
  ...{ 17: 'IQ2_XS', 18: 'IQ3_XXS', 19: 'IQ1_S', 20: 'IQ4_NL', 21: 'IQ3_S', 22: 'IQ2_S' },
  ...{ 23: 'IQ4_XS', 24: 'I8', 25: 'I16', 26: 'I32', 27: 'I64', 28: 'F64', 29: 'IQ1_M' },
  ...{ 30: 'BF16', 34: 'TQ1_0', 35: 'TQ2_0', 39: 'MXFP4' },
};

export function ggmlName(type: number): string {
  return NAMES[type] ?? `number ${type}`;
}
