import { createHash } from 'node:crypto';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { errorCode, readAt } from './files.ts';
import type { Recorder } from './reference.ts';

/**
 * Results of a long computation in a file, so that it goes on where it was interrupted, in whatever
 * way. The file is a key (which computation it is) and records: how many f64, their SHA-256, and
 * themselves. Everything behind the first record that is not whole is thrown away.
 */
export class Journal implements Recorder {
  readonly #file: FileHandle;
  readonly #path: string;
  #at: number;
  #end: number;

  private constructor(file: FileHandle, path: string, at: number, end: number) {
    this.#file = file;
    this.#path = path;
    this.#at = at;
    this.#end = end;
  }

  /** Opens a file, or begins it anew where it belongs to another computation. */
  static async open(path: string, computation: string): Promise<Journal> {
    const key = digest(new TextEncoder().encode(computation));
    const file = await openOrCreate(path);
    try {
      const { size } = await file.stat();
      const same = size >= KEY && Buffer.from(await readAt(file, 0, KEY)).toString('hex') === key;
      if (!same) {
        await file.truncate(0);
        await file.write(hexBytes(key), 0, KEY, 0);
      }
      return new Journal(file, path, KEY, same ? size : KEY);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async step(compute: () => Promise<Float64Array>): Promise<Float64Array> {
    const kept = await this.#next();
    if (kept !== null) return kept;
    const values = await compute();
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const head = new Uint8Array(HEAD);
    new DataView(head.buffer).setUint32(0, values.length, true);
    head.set(hexBytes(digest(bytes)), COUNT);
    await this.#file.truncate(this.#at);
    await writeAll(this.#file, head, this.#at);
    await writeAll(this.#file, bytes, this.#at + HEAD);
    this.#at += HEAD + bytes.length;
    this.#end = this.#at;
    return values;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Closes and deletes the file: its computation has come to its end. */
  async finish(): Promise<void> {
    await this.#file.close();
    await rm(this.#path, { force: true });
  }

  /** The next record of an earlier run, or null. */
  async #next(): Promise<Float64Array | null> {
    if (this.#at + HEAD > this.#end) return null;
    const head = await readAt(this.#file, this.#at, HEAD);
    const count = new DataView(head.buffer).getUint32(0, true);
    if (this.#at + HEAD + 8 * count > this.#end) return null;
    const bytes = await readAt(this.#file, this.#at + HEAD, 8 * count);
    if (digest(bytes) !== digestAt(head)) {
      this.#end = this.#at;
      return null;
    }
    this.#at += HEAD + bytes.length;
    return new Float64Array(bytes.buffer);
  }
}

/** Bytes of the key, of a record's count, and of both before its values. */
const KEY = 32;
const COUNT = 4;
const HEAD = COUNT + 32;

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function digestAt(head: Uint8Array): string {
  return Buffer.from(head.subarray(COUNT)).toString('hex');
}

function hexBytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

async function openOrCreate(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
    return open(path, 'w+');
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
