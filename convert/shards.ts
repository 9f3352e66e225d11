import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../src/failure.ts';
import { sha256 } from '../src/format/hash.ts';
import { blockBytes, columnsOf, roundUp } from '../src/format/layout.ts';
import { TENSOR_ALIGNMENT, type FileInfo, type TensorInfo } from '../src/format/manifest.ts';
import type { PackageTensor } from './tensors.ts';

/** Blocks of a cut tensor hold a multiple of this many rows, where they hold that many at all. */
const ROW_STEP = 32;

/**
 * Lays tensors one after the other into `stem-00000.bin`, `stem-00001.bin` ... Only the shard in
 * hand is in memory. A tensor never crosses a shard: one that is larger is cut into row blocks.
 */
export class ShardWriter {
  readonly files: FileInfo[] = [];
  readonly tensors: TensorInfo[] = [];
  readonly #folder: string;
  readonly #stem: string;
  readonly #buffer: Uint8Array<ArrayBuffer>;
  #end = 0;

  constructor(folder: string, stem: string, shardBytes: number) {
    this.#folder = folder;
    this.#stem = stem;
    this.#buffer = new Uint8Array(shardBytes);
  }

  /** @throws Failure Usage where not even one row fits a shard */
  async add(tensor: PackageTensor): Promise<void> {
    const { name, dtype, shape } = tensor;
    const rows = shape[0] ?? 1;
    const step = this.#rowsPerBlock(tensor);
    const blocks: TensorInfo['blocks'] = [];
    for (let from = 0; from < rows; from += step) {
      const to = Math.min(rows, from + step);
      blocks.push(await this.#addBlock(tensor, from, to));
    }
    this.tensors.push({ name, dtype, shape: [...shape], blocks });
  }

  /** Writes the last shard. */
  async finish(): Promise<void> {
    if (this.#end > 0) await this.#flush();
  }

  #rowsPerBlock({ name, dtype, shape }: PackageTensor): number {
    const rows = shape[0] ?? 1;
    const columns = columnsOf({ shape: [...shape] });
    const limit = this.#buffer.length;
    if (blockBytes(dtype, rows, columns) <= limit) return rows;
    let most = Math.floor((rows * limit) / blockBytes(dtype, rows, columns));
    while (most > 0 && blockBytes(dtype, most, columns) > limit) most--;
    if (most > ROW_STEP) return most - (most % ROW_STEP);
    if (most > 0) return most;
    const row = blockBytes(dtype, 1, columns);
    throw new Failure(
      'Usage',
      `tensor ${name}: one row has ${row} bytes, a shard ${limit}; give a larger --shard-bytes`,
    );
  }

  async #addBlock(
    tensor: PackageTensor,
    from: number,
    to: number,
  ): Promise<TensorInfo['blocks'][number]> {
    const columns = columnsOf({ shape: [...tensor.shape] });
    const bytes = blockBytes(tensor.dtype, to - from, columns);
    if (roundUp(this.#end, TENSOR_ALIGNMENT) + bytes > this.#buffer.length) await this.#flush();
    const offset = roundUp(this.#end, TENSOR_ALIGNMENT);
    this.#end = offset + bytes;
    await tensor.write(from, to, this.#buffer.subarray(offset, this.#end));
    return { file: this.#name(), offset, bytes, rows: [from, to] };
  }

  async #flush(): Promise<void> {
    const shard = this.#buffer.subarray(0, this.#end);
    const name = this.#name();
    this.files.push({ name, bytes: shard.length, sha256: await sha256(shard) });
    await writeFile(join(this.#folder, name), shard, { flush: true });
    this.#buffer.fill(0);
    this.#end = 0;
  }

  #name(): string {
    return `${this.#stem}-${String(this.files.length).padStart(5, '0')}.bin`;
  }
}
