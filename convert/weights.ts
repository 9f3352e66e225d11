import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { Failure, failureName } from '../src/failure.ts';
import {
  headerLength,
  parseHeader,
  toFloat32,
  type SafetensorsDtype,
  type SafetensorsEntry,
} from '../src/format/safetensors.ts';
import { check, exists, openFile, readAt, readJson } from './files.ts';

/** The largest finite f16: nothing that a package stores may be larger. */
const LARGEST = 65504;

const index = v.looseObject({
  weight_map: v.record(v.string(), v.pipe(v.string(), v.regex(/^[\w.-]+\.safetensors$/))),
});

interface Place {
  readonly file: string;
  readonly handle: FileHandle;
  readonly start: number; // of the data, after the header
  readonly entry: SafetensorsEntry;
}

/**
 * Tensors of one or several safetensors files, read row by row where they lie: a checkpoint never
 * has to fit the memory.
 */
export class Weights {
  readonly #folder: string;
  readonly #places = new Map<string, Place>();
  readonly #handles = new Map<string, FileHandle>();

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Opens `stem.safetensors`, or the shards that `stem.safetensors.index.json` lists.
   * @throws Failure NotFound, BadCheckpoint
   */
  static async open(folder: string, stem: string): Promise<Weights> {
    const weights = new Weights(folder);
    try {
      const name = `${stem}.safetensors`;
      if (await exists(folder, name)) await weights.#add(name);
      else await weights.#addIndexed(name);
    } catch (error) {
      await weights.close();
      throw error;
    }
    return weights;
  }

  async #addIndexed(name: string): Promise<void> {
    const listing = `${name}.index.json`;
    const hint = `a checkpoint needs ${name} or ${listing}`;
    const path = join(this.#folder, listing);
    const map = check(index, await readJson(this.#folder, listing, hint), path).weight_map;
    for (const file of new Set(Object.values(map))) await this.#add(file);
    for (const [tensor, file] of Object.entries(map)) {
      const place = this.#places.get(tensor);
      if (place?.file !== file)
        throw this.#bad(file, `tensor ${tensor} is not in it, though listed`);
    }
    const extra = this.names().find((tensor) => map[tensor] === undefined);
    if (extra !== undefined) throw this.#bad(listing, `tensor ${extra} is not listed`);
  }

  async #add(file: string): Promise<void> {
    const handle = await openFile(this.#folder, file, 'the checkpoint is not complete');
    this.#handles.set(file, handle);
    const { size } = await handle.stat();
    try {
      const length = headerLength(await readAt(handle, 0, Math.min(8, size)), size);
      const start = 8 + length;
      const entries = parseHeader(await readAt(handle, 8, length), size - start);
      for (const [tensor, entry] of entries) {
        if (this.#places.has(tensor)) throw this.#bad(file, `tensor ${tensor} stands twice`);
        this.#places.set(tensor, { file, handle, start, entry });
      }
    } catch (error) {
      if (failureName(error) !== 'BadCheckpoint' || !(error instanceof Error)) throw error;
      if (error.message.startsWith(this.#folder)) throw error;
      throw new Failure('BadCheckpoint', `${join(this.#folder, file)}: ${error.message}`, {
        cause: error,
      });
    }
  }

  /** The files that were opened. */
  get files(): readonly string[] {
    return [...this.#handles.keys()];
  }

  names(): readonly string[] {
    return [...this.#places.keys()];
  }

  /** @throws Failure BadCheckpoint where the tensor is missing or has another shape or dtype */
  expect(name: string, shape: readonly number[], dtypes: readonly SafetensorsDtype[]): void {
    const { file, entry } = this.#place(name);
    if (entry.shape.join() !== shape.join() || !dtypes.includes(entry.dtype)) {
      const found = `${entry.dtype} [${entry.shape.join(', ')}]`;
      throw this.#bad(
        file,
        `tensor ${name} is ${found}, not ${dtypes.join('|')} [${shape.join(', ')}]`,
      );
    }
  }

  shape(name: string): readonly number[] {
    return this.#place(name).entry.shape;
  }

  /** Bytes of rows [from, to) of the first axis. */
  async rowBytes(name: string, from: number, to: number): Promise<Uint8Array<ArrayBuffer>> {
    const { handle, start, entry } = this.#place(name);
    const rowBytes = entry.bytes / (entry.shape[0] ?? 1);
    return readAt(handle, start + entry.offset + from * rowBytes, (to - from) * rowBytes);
  }

  /**
   * Values of rows [from, to) in f32.
   * @throws Failure BadCheckpoint for a value that is no number, infinite or beyond f16
   */
  async rows(name: string, from: number, to: number): Promise<Float32Array<ArrayBuffer>> {
    const { file, entry } = this.#place(name);
    const values = toFloat32(entry.dtype, await this.rowBytes(name, from, to));
    for (let i = 0; i < values.length; i++) {
      const value = values[i] ?? 0;
      if (Math.abs(value) <= LARGEST) continue; // false for NaN
      const row = from + Math.floor((i * (to - from)) / values.length);
      throw this.#bad(file, `tensor ${name}, row ${row}: ${value} is outside the range of f16`);
    }
    return values;
  }

  /** The whole of a small tensor. */
  async all(name: string): Promise<Float32Array<ArrayBuffer>> {
    return this.rows(name, 0, this.shape(name)[0] ?? 1);
  }

  async close(): Promise<void> {
    for (const handle of this.#handles.values()) await handle.close();
  }

  #place(name: string): Place {
    const place = this.#places.get(name);
    if (place === undefined) {
      throw this.#bad([...this.#handles.keys()].join(', '), `tensor ${name} is missing`);
    }
    return place;
  }

  #bad(file: string, what: string): Failure {
    return new Failure('BadCheckpoint', `${join(this.#folder, file)}: ${what}`);
  }
}
