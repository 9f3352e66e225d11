import * as v from 'valibot';
import { Failure } from '../failure.ts';
import { bfloatsToFloats, halvesToFloats } from './dtype.ts';

/**
 * A strict reader of safetensors files: 8 bytes of header length, a JSON header, then the tensors
 * without holes or overlaps (https://github.com/huggingface/safetensors, section Format).
 */

/** Nothing larger is parsed as a header; the format's own limit. */
const MAX_HEADER_BYTES = 100_000_000;

const elementBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

export type SafetensorsDtype = keyof typeof elementBytes;

/** One tensor of a file; `offset` counts from the first byte after the header. */
export interface SafetensorsEntry {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly bytes: number;
}

/** One tensor with its bytes. */
export interface SafetensorsTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const entrySchema = v.strictObject({
  dtype: v.picklist(Object.keys(elementBytes) as (keyof typeof elementBytes)[]),
  shape: v.pipe(v.array(count), v.maxLength(8)),
  data_offsets: v.tuple([count, count]),
});
const headerSchema = v.record(v.string(), v.unknown());
const metadataSchema = v.record(v.string(), v.string());

/** How many bytes of header follow the first eight. @throws Failure BadCheckpoint */
export function headerLength(first: Uint8Array, fileBytes: number): number {
  if (first.length < 8) throw bad('shorter than a header length');
  const view = new DataView(first.buffer, first.byteOffset, 8);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > MAX_HEADER_BYTES) throw bad(`header of ${length} bytes, too large`);
  if (8 + length > fileBytes) throw bad(`header of ${length} bytes in a file of ${fileBytes}`);
  return length;
}

/**
 * The tensors that a header lists.
 * @param header the JSON bytes
 * @param dataBytes bytes of the file after the header
 * @throws Failure BadCheckpoint: not JSON, unknown dtype, sizes that disagree, holes, overlaps
 */
export function parseHeader(
  header: Uint8Array,
  dataBytes: number,
): ReadonlyMap<string, SafetensorsEntry> {
  const { __metadata__: metadata, ...rest } = parseHeaderJson(header);
  if (metadata !== undefined && !v.is(metadataSchema, metadata)) {
    throw bad('__metadata__ is not a table of strings');
  }
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, json] of Object.entries(rest)) entries.set(name, parseEntry(name, json));
  checkCover(entries, dataBytes);
  return entries;
}

function parseHeaderJson(header: Uint8Array): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(header));
  } catch (cause) {
    throw new Failure('BadCheckpoint', 'the header is not UTF-8 JSON', { cause });
  }
  if (!v.is(headerSchema, json) || header[0] !== 0x7b) throw bad('the header is not an object');
  return json;
}

function parseEntry(name: string, json: unknown): SafetensorsEntry {
  const result = v.safeParse(entrySchema, json);
  if (!result.success) throw bad(`tensor ${name}: ${result.issues[0].message}`);
  const { dtype, shape, data_offsets: offsets } = result.output;
  const [from, to] = offsets;
  const bytes = shape.reduce((product, size) => product * size, elementBytes[dtype]);
  if (to - from !== bytes) {
    throw bad(`tensor ${name}: ${to - from} bytes for ${dtype} [${shape.join(', ')}]`);
  }
  return { dtype, shape, offset: from, bytes };
}

function checkCover(entries: ReadonlyMap<string, SafetensorsEntry>, dataBytes: number): void {
  const sorted = [...entries].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes);
  let end = 0;
  for (const [name, { offset, bytes }] of sorted) {
    if (offset !== end) throw bad(`tensor ${name} starts at ${offset}, not at ${end}`);
    end = offset + bytes;
  }
  if (end !== dataBytes) throw bad(`${dataBytes} bytes of data, the header speaks of ${end}`);
}

/** A whole file: every tensor by name, as views of `file`. @throws Failure BadCheckpoint */
export function parseSafetensors(file: Uint8Array): ReadonlyMap<string, SafetensorsTensor> {
  const start = 8 + headerLength(file, file.length);
  const entries = parseHeader(file.subarray(8, start), file.length - start);
  const view = ({ dtype, shape, offset, bytes }: SafetensorsEntry): SafetensorsTensor => ({
    dtype,
    shape,
    bytes: file.subarray(start + offset, start + offset + bytes),
  });
  return new Map([...entries].map(([name, entry]) => [name, view(entry)]));
}

/** The values of an F32, F16 or BF16 tensor. @throws Failure BadCheckpoint for other dtypes */
export function toFloat32(dtype: SafetensorsDtype, bytes: Uint8Array): Float32Array<ArrayBuffer> {
  if (dtype === 'F32') return new Float32Array(new Uint8Array(bytes).buffer); // a copy, aligned
  if (dtype === 'F16') return halvesToFloats(halvesOf(bytes));
  if (dtype === 'BF16') return bfloatsToFloats(halvesOf(bytes)).values;
  throw bad(`dtype ${dtype} where F32, F16 or BF16 is needed`);
}

/** Bytes as numbers of two, where they lie if that is an even place. */
export function halvesOf(bytes: Uint8Array): Uint16Array {
  const { buffer, byteOffset, length } = bytes.byteOffset % 2 === 0 ? bytes : new Uint8Array(bytes); // not slice(): see Node's Buffer
  return new Uint16Array(buffer, byteOffset, length / 2);
}

/** A file with the given tensors, in their order. */
export function writeSafetensors(
  tensors: Readonly<Record<string, SafetensorsTensor>>,
): Uint8Array<ArrayBuffer> {
  let end = 0;
  const header: Record<string, unknown> = {};
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = Math.ceil(json.length / 8) * 8; // spaces align the data to 8 bytes
  const file = new Uint8Array(8 + length + end).fill(0x20, 8, 8 + length);
  new DataView(file.buffer).setUint32(0, length, true);
  file.set(json, 8);
  let offset = 8 + length;
  for (const { bytes } of Object.values(tensors)) {
    file.set(bytes, offset);
    offset += bytes.length;
  }
  return file;
}

function bad(what: string): Failure {
  return new Failure('BadCheckpoint', `safetensors: ${what}`);
}
