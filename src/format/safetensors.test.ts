import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { failureName } from '../failure.ts';
import { parseSafetensors, toFloat32, writeSafetensors } from './safetensors.ts';

function file(header: unknown, data = 0, padding = ''): Uint8Array {
  const text = typeof header === 'string' ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text + padding);
  const bytes = new Uint8Array(8 + json.length + data);
  new DataView(bytes.buffer).setUint32(0, json.length, true);
  bytes.set(json, 8);
  return bytes;
}

const u8 = (from: number, to: number) => ({
  dtype: 'U8',
  shape: [to - from],
  data_offsets: [from, to],
});

describe('a safetensors file', () => {
  it('comes back as it was written', () => {
    const tensors = fc.dictionary(
      fc.string({ minLength: 1 }).filter((name) => name !== '__metadata__' && name !== '__proto__'),
      fc.uint8Array({ maxLength: 40 }),
      { maxKeys: 6 },
    );
    fc.assert(
      fc.property(tensors, (values) => {
        const written = Object.fromEntries(
          Object.entries(values).map(([name, bytes]) => [
            name,
            { dtype: 'U8' as const, shape: [bytes.length], bytes: new Uint8Array(bytes) },
          ]),
        );
        expect(Object.fromEntries(parseSafetensors(writeSafetensors(written)))).toEqual(written);
      }),
    );
  });

  it('is read as f32 from F32, F16 and BF16', () => {
    expect(toFloat32('F32', new Uint8Array(Float32Array.of(0.1, -3).buffer))).toEqual(
      Float32Array.of(0.1, -3),
    );
    expect(toFloat32('F16', Uint8Array.of(0, 0x3c, 0, 0xc0))).toEqual(Float32Array.of(1, -2));
    expect(toFloat32('BF16', Uint8Array.of(0x80, 0x3f, 0, 0xc0))).toEqual(Float32Array.of(1, -2));
    const pooled = Buffer.from(Float32Array.of(7, 8).buffer).subarray(4);
    expect(toFloat32('F32', Buffer.concat([pooled]))).toEqual(Float32Array.of(8));
    expect(() => toFloat32('I32', new Uint8Array(4))).toThrow('I32');
  });

  it('may carry metadata and spaces after the header', () => {
    const bytes = file({ __metadata__: { format: 'pt' }, a: u8(0, 2) }, 2, '     ');
    expect([...parseSafetensors(bytes).keys()]).toEqual(['a']);
  });

  it.each([
    ['nothing', new Uint8Array(0), 'shorter'],
    ['a header longer than the file', Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0, 0x7b), 'in a file of'],
    ['a header of exabytes', Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0x10), 'too large'],
    ['no JSON', file('{"a"'), 'not UTF-8 JSON'],
    ['a list', file('[]'), 'not an object'],
    ['metadata of numbers', file({ __metadata__: { a: 1 } }), 'table of strings'],
    ['an unknown dtype', file({ a: { ...u8(0, 1), dtype: 'Q4' } }, 1), 'tensor a'],
    ['an unknown field', file({ a: { ...u8(0, 1), scale: 1 } }, 1), 'tensor a'],
    ['a negative offset', file({ a: { ...u8(0, 1), data_offsets: [-1, 0] } }, 1), 'tensor a'],
    ['a size that disagrees', file({ a: { ...u8(0, 2), shape: [3] } }, 2), '2 bytes for U8 [3]'],
    ['a hole', file({ a: u8(0, 1), b: u8(2, 3) }, 3), 'tensor b starts at 2, not at 1'],
    ['an overlap', file({ a: u8(0, 2), b: u8(1, 3) }, 3), 'tensor b starts at 1, not at 2'],
    ['data nobody names', file({ a: u8(0, 1) }, 2), '2 bytes of data'],
    ['data that is missing', file({ a: u8(0, 4) }, 3), '3 bytes of data'],
  ])('is refused with %s', (_, bytes, message) => {
    expect(() => parseSafetensors(bytes)).toThrow(message);
    try {
      parseSafetensors(bytes);
    } catch (error) {
      expect(failureName(error)).toBe('BadCheckpoint');
    }
  });
});
