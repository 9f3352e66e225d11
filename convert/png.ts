import { crc32, deflateSync } from 'node:zlib';

/** A picture of 8 bits each of red, green and blue, row-major from the top. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const RGB = 2; // the colour type

/**
 * The bytes of a PNG file (https://www.w3.org/TR/png-3/), its rows not filtered.
 * @param texts what goes along, by keyword: Latin-1 only
 */
export function encodePng(
  { width, height, rgb }: Picture,
  texts: Readonly<Record<string, string>> = {},
): Uint8Array {
  if (rgb.length !== 3 * width * height) {
    throw new RangeError(`${rgb.length} bytes of colour for ${width} x ${height}`);
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, RGB, 0, 0, 0], 8);
  const rows = Buffer.alloc(height * (1 + 3 * width)); // the byte before each row: no filter
  for (let y = 0; y < height; y++) {
    rows.set(rgb.subarray(3 * y * width, 3 * (y + 1) * width), y * (1 + 3 * width) + 1);
  }
  const notes = Object.entries(texts).map(([keyword, text]) =>
    chunk('tEXt', Buffer.from(`${keyword}\0${text}`, 'latin1')),
  );
  return Buffer.concat([
    Buffer.from(SIGNATURE),
    chunk('IHDR', header),
    ...notes,
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** Length, type, content, and the CRC of type and content. */
function chunk(type: string, content: Uint8Array): Uint8Array {
  const checked = Buffer.concat([Buffer.from(type, 'latin1'), content]);
  const bytes = Buffer.alloc(8 + checked.length);
  bytes.writeUInt32BE(content.length, 0);
  bytes.set(checked, 4);
  bytes.writeUInt32BE(crc32(checked), 4 + checked.length);
  return bytes;
}
