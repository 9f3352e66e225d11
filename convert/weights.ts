import type { FileHandle } from 'node:fs/promises';
import { extname, join } from 'node:path';
import * as v from 'valibot';
import { Failure, failureName } from '../src/failure.ts';
import { bfloatsToFloats } from '../src/format/dtype.ts';
import { halvesOf, toFloat32, type SafetensorsDtype } from '../src/format/safetensors.ts';
import { check, exists, openFile, readJson } from './files.ts';
import { ggufTensors } from './formats/gguf-model.ts';
import { openGguf } from './formats/gguf.ts';
import { openSafetensors } from './formats/safetensors.ts';
import { fileSource, type ByteSource, type StoredTensor } from './formats/stored.ts';
import { openTorch } from './formats/torch.ts';

/** The largest finite f16: nothing that a package stores may be larger. */
const LARGEST = 65504;
/** More is never asked for at once: a tensor that says otherwise is not what it seems. */
const MAX_READ_BYTES = 1 << 30;

/** The size bits of the largest bf16 that is not beyond `LARGEST`: 65280. */
export const LARGEST_BFLOAT = 0x477f;

/** Names without folders, in which a listing may look for tensors. */
const index = v.looseObject({
  weight_map: v.record(
    v.string(),
    v.pipe(v.string(), v.regex(/^[\w.-]+\.(safetensors|bin)$/, 'no name of a weights file')),
  ),
});

/** The file of every tensor. @throws Failure BadCheckpoint */
export function parseIndex(json: unknown, path: string): ReadonlyMap<string, string> {
  return new Map(Object.entries(check(index, json, path).weight_map));
}

/** What a checkpoint and an adapter may be called, in the order of preference. */
const FILES: Readonly<Record<string, readonly string[]>> = {
  model: ['model.safetensors', 'pytorch_model.bin'],
  quantized: ['quantized.safetensors'],
  adapter_model: ['adapter_model.safetensors', 'adapter_model.bin'],
};
export type Stem = 'model' | 'quantized' | 'adapter_model';

const READERS: Readonly<
  Record<string, (source: ByteSource) => Promise<ReadonlyMap<string, StoredTensor>>>
> = {
  '.bin': openTorch,
  '.gguf': async (source) => ggufTensors(await openGguf(source)),
};

interface Place {
  readonly file: string;
  readonly tensor: StoredTensor;
}

/**
 * Tensors of one or several safetensors or PyTorch files, read row by row where they lie: a
 * checkpoint never has to fit the memory.
 */
export class Weights {
  readonly #folder: string;
  readonly #places = new Map<string, Place>();
  readonly #handles = new Map<string, FileHandle>();

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Opens `model.safetensors`, or the shards that `model.safetensors.index.json` lists, or else
   * `pytorch_model.bin` in one of these ways; likewise for the other stems.
   * @throws Failure NotFound, BadCheckpoint
   */
  static async open(folder: string, stem: Stem): Promise<Weights> {
    const weights = new Weights(folder);
    try {
      await weights.#open(FILES[stem] ?? []);
    } catch (error) {
      await weights.close();
      throw error;
    }
    return weights;
  }

  /** Opens one file by its name. @throws Failure NotFound, BadCheckpoint */
  static async openFile(folder: string, file: string): Promise<Weights> {
    const weights = new Weights(folder);
    try {
      await weights.#add(file);
    } catch (error) {
      await weights.close();
      throw error;
    }
    return weights;
  }

  async #open(names: readonly string[]): Promise<void> {
    for (const name of names) {
      if (await exists(this.#folder, name)) return this.#add(name);
      const listing = `${name}.index.json`;
      if (await exists(this.#folder, listing)) return this.#addIndexed(listing);
    }
    const needed = `${names.join(' or ')}, whole or in shards with an .index.json`;
    throw new Failure('NotFound', `${this.#folder}: no weights; a checkpoint needs ${needed}`);
  }

  async #addIndexed(listing: string): Promise<void> {
    const json = await readJson(this.#folder, listing, '');
    const map = parseIndex(json, join(this.#folder, listing));
    for (const file of new Set(map.values())) await this.#add(file);
    for (const [tensor, file] of map) {
      const place = this.#places.get(tensor);
      if (place?.file !== file)
        throw this.#bad(file, `tensor ${tensor} is not in it, though listed`);
    }
    const extra = this.names().find((tensor) => !map.has(tensor));
    if (extra !== undefined) throw this.#bad(listing, `tensor ${extra} is not listed`);
  }

  async #add(file: string): Promise<void> {
    const handle = await openFile(this.#folder, file, 'the checkpoint is not complete');
    this.#handles.set(file, handle);
    const read = READERS[extname(file)] ?? openSafetensors;
    try {
      for (const [name, tensor] of await read(await fileSource(handle))) {
        if (this.#places.has(name))
          throw new Failure('BadCheckpoint', `tensor ${name} stands twice`);
        this.#places.set(name, { file, tensor });
      }
    } catch (cause) {
      if (failureName(cause) !== 'BadCheckpoint' || !(cause instanceof Error)) throw cause;
      throw new Failure('BadCheckpoint', `${join(this.#folder, file)}: ${cause.message}`, {
        cause,
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
    const { file, tensor: entry } = this.#place(name);
    if (entry.shape.join() !== shape.join() || !dtypes.includes(entry.dtype)) {
      const found = `${entry.dtype} [${entry.shape.join(', ')}]`;
      throw this.#bad(
        file,
        `tensor ${name} is ${found}, not ${dtypes.join('|')} [${shape.join(', ')}]`,
      );
    }
  }

  shape(name: string): readonly number[] {
    return this.#place(name).tensor.shape;
  }

  /** Bytes of rows [from, to) of the first axis, as the tensor's dtype says. */
  async rowBytes(name: string, from: number, to: number): Promise<Uint8Array<ArrayBuffer>> {
    const { file, tensor } = this.#place(name);
    const values = tensor.shape.slice(1).reduce((product, one) => product * one, to - from);
    if (values > MAX_READ_BYTES / 8) throw this.#bad(file, `tensor ${name}: too large to read`);
    return this.#told(file, `tensor ${name}, row ${from}`, () => tensor.rowBytes(from, to));
  }

  /** Says where a file has become shorter since it was opened. */
  async #told<T>(file: string, where: string, read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (cause) {
      if (failureName(cause) !== 'ShardTruncated' || !(cause instanceof Error)) throw cause;
      throw this.#bad(file, `${where}: ${cause.message}`, cause);
    }
  }

  /**
   * Values of rows [from, to) in f32.
   * @throws Failure BadCheckpoint for a value that is no number, infinite or beyond f16
   */
  async rows(name: string, from: number, to: number): Promise<Float32Array<ArrayBuffer>> {
    const { file, tensor } = this.#place(name);
    const bytes = await this.rowBytes(name, from, to);
    if (tensor.dtype === 'BF16') {
      // The same as below in one pass: large checkpoints are bf16.
      const { values, largest } = bfloatsToFloats(halvesOf(bytes));
      if (largest <= LARGEST_BFLOAT) return values;
    }
    const values = toFloat32(tensor.dtype, bytes);
    for (let i = 0; i < values.length; i++) {
      const value = values[i] ?? 0;
      if (Math.abs(value) <= LARGEST) continue; // false for NaN
      const row = from + Math.floor((i * (to - from)) / values.length);
      throw this.#bad(file, `tensor ${name}, row ${row}: ${value} is outside the range of f16`);
    }
    return values;
  }

  /**
   * How to read rows of bf16 as they lie in a file, without anything being allocated; null for other
   * tensors. Values are not looked at: `rows` says what is wrong where one is beyond `LARGEST_BFLOAT`.
   */
  bfloatRows(name: string): ((from: number, target: Uint8Array) => Promise<void>) | null {
    const { file, tensor } = this.#place(name);
    const { rowsInto } = tensor;
    if (tensor.dtype !== 'BF16' || rowsInto === undefined) return null;
    return (from, target) =>
      this.#told(file, `tensor ${name}, row ${from}`, () => rowsInto(from, target));
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

  #bad(file: string, what: string, cause?: Error): Failure {
    return new Failure('BadCheckpoint', `${join(this.#folder, file)}: ${what}`, { cause });
  }
}
