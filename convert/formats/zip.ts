import { bad, uint64, type ByteSource } from './stored.ts';

/**
 * Where the entries of a zip archive lie, for archives that compress nothing, as PyTorch writes
 * them. Layout: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory),
 * 4.3.14 to 4.3.16 (its end, and that of zip64), 4.5.3 (64-bit sizes).
 */

const END = 0x06054b50;
const END_BYTES = 22;
const MAX_COMMENT = 0xffff;
const LOCATOR64 = 0x07064b50;
const LOCATOR64_BYTES = 20;
const END64 = 0x06064b50;
const END64_BYTES = 56;
const CENTRAL = 0x02014b50;
const CENTRAL_BYTES = 46;
const LOCAL = 0x04034b50;
const LOCAL_BYTES = 30;
const EXTRA64 = 1;
const FULL = 0xffffffff;
const FULL_COUNT = 0xffff;
const ENCRYPTED = 1;
/** A checkpoint of a thousand tensors has some 100 kB of directory. */
const MAX_DIRECTORY_BYTES = 64 << 20;

export interface ZipEntry {
  readonly name: string;
  readonly bytes: number;
  /** Of the local header, after which the bytes come. */
  readonly header: number;
}

export interface Zip {
  readonly entries: ReadonlyMap<string, ZipEntry>;
  /** Where the bytes of an entry begin. @throws Failure BadCheckpoint */
  start(entry: ZipEntry): Promise<number>;
}

/** @throws Failure BadCheckpoint: no archive, a broken one, or one with compressed entries */
export async function openZip(source: ByteSource): Promise<Zip> {
  const { offset, bytes, count } = await findDirectory(source);
  if (bytes > MAX_DIRECTORY_BYTES) throw bad(`zip: a directory of ${bytes} bytes, too large`);
  if (offset + bytes > source.size) throw bad('zip: the directory ends after the file');
  const entries = readDirectory(await source.read(offset, bytes), count, offset);
  const start = async ({ name, header, bytes }: ZipEntry): Promise<number> => {
    const broken = bad(`zip: ${name}: no entry at byte ${header}`);
    if (header + LOCAL_BYTES > offset) throw broken;
    const local = viewOf(await source.read(header, LOCAL_BYTES));
    if (local.getUint32(0, true) !== LOCAL) throw broken;
    const first = header + LOCAL_BYTES + local.getUint16(26, true) + local.getUint16(28, true);
    if (first + bytes > offset) throw bad(`zip: ${name}: ends inside the directory`);
    return first;
  };
  return { entries, start };
}

interface Directory {
  readonly offset: number;
  readonly bytes: number;
  readonly count: number;
}

async function findDirectory(source: ByteSource): Promise<Directory> {
  const length = Math.min(source.size, END_BYTES + MAX_COMMENT);
  const tail = await source.read(source.size - length, length);
  const view = viewOf(tail);
  for (let at = length - END_BYTES; at >= 0; at--) {
    if (view.getUint32(at, true) !== END) continue;
    if (at + END_BYTES + view.getUint16(at + 20, true) !== length) continue;
    const directory = {
      count: view.getUint16(at + 10, true),
      bytes: view.getUint32(at + 12, true),
      offset: view.getUint32(at + 16, true),
    };
    const full =
      directory.count === FULL_COUNT || directory.bytes === FULL || directory.offset === FULL;
    const found64 = await findDirectory64(source, source.size - length + at - LOCATOR64_BYTES);
    if (found64 === null && full) throw bad('zip: 64-bit sizes are announced and missing');
    return found64 ?? directory;
  }
  throw bad('zip: no end of a directory; the file is cut short or is no archive');
}

/** The directory of a zip64 archive, whose locator would stand at `at`; null for a plain one. */
async function findDirectory64(source: ByteSource, at: number): Promise<Directory | null> {
  if (at < 0) return null;
  const locator = viewOf(await source.read(at, LOCATOR64_BYTES));
  if (locator.getUint32(0, true) !== LOCATOR64) return null;
  const offset = uint64(locator, 8);
  if (offset + END64_BYTES > at) throw bad('zip: the 64-bit end lies outside the file');
  const end = viewOf(await source.read(offset, END64_BYTES));
  if (end.getUint32(0, true) !== END64) throw bad('zip: no 64-bit end where one is announced');
  return { count: uint64(end, 32), bytes: uint64(end, 40), offset: uint64(end, 48) };
}

function readDirectory(bytes: Uint8Array, count: number, limit: number): Map<string, ZipEntry> {
  const view = viewOf(bytes);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + CENTRAL_BYTES > bytes.length || view.getUint32(at, true) !== CENTRAL) {
      throw bad(`zip: entry ${i} of ${count} is broken`);
    }
    const [nameBytes, extraBytes] = [view.getUint16(at + 28, true), view.getUint16(at + 30, true)];
    const extraAt = at + CENTRAL_BYTES + nameBytes;
    const next = extraAt + extraBytes + view.getUint16(at + 32, true);
    if (next > bytes.length) throw bad(`zip: entry ${i} ends after the directory`);
    const name = new TextDecoder().decode(bytes.subarray(at + CENTRAL_BYTES, extraAt));
    if (view.getUint16(at + 8, true) & ENCRYPTED) throw bad(`zip: ${name} is encrypted`);
    if (view.getUint16(at + 10, true) !== 0) {
      throw bad(`zip: ${name} is compressed; torch.save stores tensors as they are`);
    }
    const [size, header] = sizesOf(view, at, extraAt, extraBytes, name);
    if (header + LOCAL_BYTES + size > limit) throw bad(`zip: ${name} lies outside the file`);
    if (entries.has(name)) throw bad(`zip: ${name} stands twice`);
    entries.set(name, { name, bytes: size, header });
    at = next;
  }
  return entries;
}

/** Size and place of an entry, from the field of 64 bits where 32 do not do. */
function sizesOf(
  view: DataView,
  at: number,
  extraAt: number,
  extraBytes: number,
  name: string,
): readonly [number, number] {
  const [stored, size] = [view.getUint32(at + 20, true), view.getUint32(at + 24, true)];
  const header = view.getUint32(at + 42, true);
  if (stored !== FULL && size !== FULL && header !== FULL) {
    if (stored !== size) throw bad(`zip: ${name}: ${stored} bytes stored for ${size}`);
    return [size, header];
  }
  for (let from = extraAt; from + 4 <= extraAt + extraBytes;) {
    const end = from + 4 + view.getUint16(from + 2, true);
    if (view.getUint16(from, true) !== EXTRA64) {
      from = end;
      continue;
    }
    // Those of the three that are full stand here, in this order.
    let field = from + 4;
    const take = (value: number): number => {
      if (value !== FULL) return value;
      if (field + 8 > Math.min(end, extraAt + extraBytes)) throw bad(`zip: ${name}: sizes missing`);
      field += 8;
      return uint64(view, field - 8);
    };
    const whole = take(size);
    if (take(stored) !== whole) throw bad(`zip: ${name}: its two sizes differ`);
    return [whole, take(header)];
  }
  throw bad(`zip: ${name}: no 64-bit sizes`);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
