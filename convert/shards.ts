import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../src/failure.ts';
import { sha256 } from '../src/format/hash.ts';
import { blockBytes, columnsOf, roundUp } from '../src/format/layout.ts';
import { TENSOR_ALIGNMENT, type FileInfo, type TensorInfo } from '../src/format/manifest.ts';
import { diskFailure } from './files.ts';
import type { PackageTensor, RoundingError } from './tensors.ts';

/**
 * Files of a package. Where every row lies follows from the tensors' shapes alone, so that any file
 * can be written before any other, by any thread, or again after an interruption.
 */

/** Blocks of a cut tensor hold a multiple of this many rows, where they hold that many at all. */
const ROW_STEP = 32;

/** A file before it is written. */
export interface Shard {
  readonly name: string;
  readonly bytes: number;
  readonly blocks: readonly ShardBlock[];
}

/** Rows of a tensor (an index among those of the plan) and the bytes that they take. */
interface ShardBlock {
  readonly tensor: number;
  readonly rows: readonly [from: number, to: number];
  readonly offset: number;
  readonly bytes: number;
}

export interface ShardPlan {
  readonly shards: readonly Shard[];
  readonly tensors: readonly TensorInfo[];
}

/** A file that was written, and what rounding did to the tensors in it. */
export interface WrittenShard {
  readonly file: FileInfo;
  readonly errors: readonly { readonly tensor: number; readonly error: RoundingError }[];
}

type Form = Pick<PackageTensor, 'name' | 'dtype' | 'shape'>;

/**
 * Lays tensors one after the other into `stem-00000.bin`, `stem-00001.bin` ... A tensor never
 * crosses a file: one that is larger is cut into row blocks.
 * @throws Failure Usage where not even one row fits a file
 */
export function planShards(stem: string, tensors: readonly Form[], shardBytes: number): ShardPlan {
  const shards: Shard[] = [];
  let blocks: ShardBlock[] = [];
  let end = 0;
  const name = () => `${stem}-${String(shards.length).padStart(5, '0')}.bin`;
  const finish = () => {
    if (blocks.length > 0) shards.push({ name: name(), bytes: end, blocks });
    blocks = [];
    end = 0;
  };
  const laid = tensors.map((tensor, index): TensorInfo => {
    const { dtype, shape } = tensor;
    const [rows, columns] = [shape[0] ?? 1, columnsOf({ shape: [...shape] })];
    const step = rowsPerBlock(tensor, shardBytes);
    const own: TensorInfo['blocks'] = [];
    for (let from = 0; from < rows; from += step) {
      const to = Math.min(rows, from + step);
      const bytes = blockBytes(dtype, to - from, columns);
      if (roundUp(end, TENSOR_ALIGNMENT) + bytes > shardBytes) finish();
      const offset = roundUp(end, TENSOR_ALIGNMENT);
      end = offset + bytes;
      blocks.push({ tensor: index, rows: [from, to], offset, bytes });
      own.push({ file: name(), offset, bytes, rows: [from, to] });
    }
    return { name: tensor.name, dtype, shape: [...shape], blocks: own };
  });
  finish();
  return { shards, tensors: laid };
}

function rowsPerBlock({ name, dtype, shape }: Form, limit: number): number {
  const rows = shape[0] ?? 1;
  const columns = columnsOf({ shape: [...shape] });
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

/** Writes one file; only that one is in memory. @throws Failure StorageFull, what tensors throw */
export async function writeShard(
  folder: string,
  { name, bytes, blocks }: Shard,
  tensors: readonly PackageTensor[],
): Promise<WrittenShard> {
  const shard = new Uint8Array(bytes);
  const errors: { tensor: number; error: RoundingError }[] = [];
  for (const { tensor, rows, offset, bytes: length } of blocks) {
    const place = shard.subarray(offset, offset + length);
    const error = await tensors[tensor]?.write(...rows, place);
    if (error !== undefined && error !== null) errors.push({ tensor, error });
  }
  const file = { name, bytes, sha256: await sha256(shard) };
  try {
    await writeFile(join(folder, name), shard, { flush: true });
  } catch (cause) {
    throw diskFailure(cause, join(folder, name));
  }
  return { file, errors };
}

/** Plans and writes the files of some tensors, one after the other. */
export async function writeShards(
  folder: string,
  stem: string,
  tensors: readonly PackageTensor[],
  shardBytes: number,
  onShard: () => void = () => undefined,
): Promise<{ files: FileInfo[]; tensors: TensorInfo[] }> {
  const plan = planShards(stem, tensors, shardBytes);
  const files: FileInfo[] = [];
  for (const shard of plan.shards) {
    files.push((await writeShard(folder, shard, tensors)).file);
    onShard();
  }
  return { files, tensors: [...plan.tensors] };
}
