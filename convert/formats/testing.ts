import { Failure } from '../../src/failure.ts';
import type { ByteSource } from './stored.ts';

/** Files in memory, and an archive writer; for tests. */

export function memorySource(bytes: Uint8Array): ByteSource {
  const read = (offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> => {
    if (offset < 0 || length < 0 || offset + length > bytes.length) {
      const what = `bytes ${offset} to ${offset + length} of ${bytes.length}`;
      return Promise.reject(new Failure('ShardTruncated', what));
    }
    return Promise.resolve(new Uint8Array(bytes.subarray(offset, offset + length)));
  };
  return { size: bytes.length, read };
}

interface ZipOptions {
  readonly zip64?: boolean;
  readonly comment?: string;
  readonly method?: number;
  readonly flags?: number;
  /** So many bytes are missing at the end. */
  readonly cut?: number;
}

/** An archive of stored entries; checksums are left 0, which no reader of ours looks at. */
export function zipOf(
  entries: Readonly<Record<string, Uint8Array>>,
  { zip64 = false, comment = '', method = 0, flags = 0, cut = 0 }: ZipOptions = {},
): Uint8Array {
  const parts: number[] = [];
  const directory: number[] = [];
  const encode = (text: string) => [...new TextEncoder().encode(text)];
  for (const [name, bytes] of Object.entries(entries)) {
    const header = parts.length;
    const length = u32(bytes.length);
    const title = encode(name);
    const padding = [0xfe, 0xca, 2, 0, 0, 0]; // an extra field, as PyTorch aligns with
    const both = [...u16(20), ...u16(flags), ...u16(method), ...u32(0), ...u32(0)];
    const ends = [...u16(title.length), ...u16(padding.length)];
    parts.push(...[0x50, 0x4b, 3, 4], ...both, ...length, ...length, ...ends, ...title);
    parts.push(...padding);
    for (const byte of bytes) parts.push(byte);
    const extra = zip64
      ? [
          ...padding,
          ...u16(1),
          ...u16(24),
          ...u64(bytes.length),
          ...u64(bytes.length),
          ...u64(header),
        ]
      : [];
    const size = zip64 ? u32(0xffffffff) : length;
    const sizes = [...size, ...size, ...u16(title.length), ...u16(extra.length), ...u16(0)];
    const place = [...u16(0), ...u16(0), ...u32(0), ...u32(zip64 ? 0xffffffff : header)];
    directory.push(...[0x50, 0x4b, 1, 2], ...u16(20), ...both, ...sizes, ...place);
    directory.push(...title, ...extra);
  }
  const at = parts.length;
  const count = Object.keys(entries).length;
  const end64 = at + directory.length;
  parts.push(...directory);
  if (zip64) {
    parts.push(...[0x50, 0x4b, 6, 6], ...u64(44), ...u16(45), ...u16(45), ...u32(0), ...u32(0));
    parts.push(...u64(count), ...u64(count), ...u64(directory.length), ...u64(at));
    parts.push(...[0x50, 0x4b, 6, 7], ...u32(0), ...u64(end64), ...u32(1));
  }
  const [size, place] = zip64 ? [0xffffffff, 0xffffffff] : [directory.length, at];
  const counts = u16(zip64 ? 0xffff : count);
  const note = encode(comment);
  parts.push(...[0x50, 0x4b, 5, 6], ...u16(0), ...u16(0), ...counts, ...counts);
  parts.push(...u32(size), ...u32(place), ...u16(note.length), ...note);
  return Uint8Array.from(parts).slice(0, parts.length - cut);
}

const u16 = (value: number) => [value & 255, value >> 8];
const u32 = (value: number) => [...new Uint8Array(Uint32Array.of(value).buffer)];
const u64 = (value: number) => [...u32(value % 2 ** 32), ...u32(Math.floor(value / 2 ** 32))];

/** Values of metadata with the number of their type, as [6, 1.5] for an f32. */
type GgufEntry = readonly [type: number, value: number | string | readonly (number | string)[]];

export interface GgufParts {
  readonly metadata?: Readonly<Record<string, GgufEntry>>;
  readonly tensors?: Readonly<
    Record<string, { readonly type: number; readonly shape: number[]; readonly bytes: Uint8Array }>
  >;
  readonly version?: number;
}

/** A GGUF file; lists hold texts (type 8) or i32 (type 5), told apart by their first entry. */
export function ggufOf({ metadata = {}, tensors = {}, version = 3 }: GgufParts): Uint8Array {
  const encode = (text: string) => {
    const bytes = [...new TextEncoder().encode(text)];
    return [...u64(bytes.length), ...bytes];
  };
  const scalar = (type: number, value: number | string): number[] => {
    if (typeof value === 'string') return encode(value);
    if (type === 6) return [...new Uint8Array(Float32Array.of(value).buffer)];
    if (type === 7) return [value];
    return type === 10 ? u64(value) : u32(value);
  };
  const value = ([type, content]: GgufEntry): number[] => {
    if (typeof content !== 'object') return [...u32(type), ...scalar(type, content)];
    const item = typeof content[0] === 'string' ? 8 : 5;
    const items = content.flatMap((one) => scalar(item, one));
    return [...u32(9), ...u32(item), ...u64(content.length), ...items];
  };
  const [infos, data]: [number[], number[]] = [[], []];
  for (const [name, { type, shape, bytes }] of Object.entries(tensors)) {
    const sizes = [...shape].reverse().flatMap(u64);
    infos.push(...encode(name), ...u32(shape.length), ...sizes, ...u32(type), ...u64(data.length));
    for (const byte of bytes) data.push(byte);
    while (data.length % 32 !== 0) data.push(0);
  }
  const entries = Object.entries(metadata);
  const file = [...u32(0x46554747), ...u32(version), ...u64(Object.keys(tensors).length)];
  file.push(...u64(entries.length));
  for (const [key, entry] of entries) {
    file.push(...encode(key));
    for (const byte of value(entry)) file.push(byte);
  }
  for (const byte of infos) file.push(byte);
  while (file.length % 32 !== 0) file.push(0);
  for (const byte of data) file.push(byte);
  return Uint8Array.from(file);
}
