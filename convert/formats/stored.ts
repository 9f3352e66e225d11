import type { FileHandle } from 'node:fs/promises';
import { Failure } from '../../src/failure.ts';
import type { SafetensorsDtype } from '../../src/format/safetensors.ts';
import { readAt, readInto } from '../files.ts';

/** Bytes of a file that are read where they lie: every reader of a format stands on this. */
export interface ByteSource {
  readonly size: number;
  /** Exactly `length` bytes. @throws Failure ShardTruncated where the file ends before */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Fills `target`, likewise: nothing is allocated. Not every source can. */
  readInto?(offset: number, target: Uint8Array): Promise<void>;
}

/** A tensor where it lies in a file. */
export interface StoredTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** Bytes of rows [from, to) of the first axis, row-major, little-endian, as `dtype` says. */
  readonly rowBytes: (from: number, to: number) => Promise<Uint8Array<ArrayBuffer>>;
  /** The same into a place of that size, where rows lie in the file as they are. */
  readonly rowsInto?: ((from: number, target: Uint8Array) => Promise<void>) | undefined;
}

export async function fileSource(handle: FileHandle): Promise<ByteSource> {
  const { size } = await handle.stat();
  return {
    size,
    read: (offset, length) => readAt(handle, offset, length),
    readInto: (offset, target) => readInto(handle, offset, target),
  };
}

/** A little-endian number of eight bytes. @throws Failure BadCheckpoint beyond 2^53 */
export function uint64(view: DataView, offset: number): number {
  const value = view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
  if (!Number.isSafeInteger(value)) throw bad(`a size of ${value}`);
  return value;
}

/** A failure to which the caller adds the file's name. */
export function bad(what: string): Failure {
  return new Failure('BadCheckpoint', what);
}
