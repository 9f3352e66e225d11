import { inflateSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { encodePng } from './png.ts';

/** CRC-32 bit by bit, as the standard describes it. */
function crc(bytes: Uint8Array): number {
  let rest = 0xffffffff;
  for (const byte of bytes) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ 0xedb88320 : rest >>> 1;
  }
  return (rest ^ 0xffffffff) >>> 0;
}

function chunksOf(file: Uint8Array): { type: string; content: Buffer }[] {
  const bytes = Buffer.from(file);
  const chunks = [];
  for (let at = 8; at < bytes.length;) {
    const length = bytes.readUInt32BE(at);
    const checked = bytes.subarray(at + 4, at + 8 + length);
    expect(bytes.readUInt32BE(at + 8 + length)).toBe(crc(checked));
    chunks.push({ type: checked.toString('latin1', 0, 4), content: checked.subarray(4) });
    at += 12 + length;
  }
  return chunks;
}

describe('a PNG', () => {
  it('has the chunks and the pixels of a picture', () => {
    const [width, height] = [3, 2];
    const rgb = Uint8Array.from({ length: 18 }, (_, i) => 13 * i + 5);
    const file = encodePng({ width, height, rgb }, { Title: 'a', Description: 'b c' });
    expect([...file.subarray(0, 8)]).toEqual([137, 80, 78, 71, 13, 10, 26, 10]);
    const chunks = chunksOf(file);
    expect(chunks.map(({ type }) => type)).toEqual(['IHDR', 'tEXt', 'tEXt', 'IDAT', 'IEND']);
    expect([...(chunks[0]?.content ?? [])]).toEqual([0, 0, 0, 3, 0, 0, 0, 2, 8, 2, 0, 0, 0]);
    expect(chunks[2]?.content.toString('latin1')).toBe('Description\0b c');
    const rows = inflateSync(chunks[3]?.content ?? Buffer.alloc(0));
    expect([...rows]).toEqual([0, ...rgb.subarray(0, 9), 0, ...rgb.subarray(9)]);
    expect(chunks[4]?.content).toHaveLength(0);
  });

  it('is not made of too few bytes', () => {
    expect(() => encodePng({ width: 2, height: 2, rgb: new Uint8Array(11) })).toThrow(
      '11 bytes of colour for 2 x 2',
    );
  });
});
