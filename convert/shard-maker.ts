import type { FailureName } from '../src/failure.ts';
import type { RecipeClasses } from '../src/format/recipe.ts';
import { packBase } from './base.ts';
import { openCheckpoint } from './checkpoint.ts';
import { planShards, writeShard, type WrittenShard } from './shards.ts';

/** Writes the base's files of a conversion, each when it is asked for. */
export interface ShardMaker {
  write(index: number): Promise<WrittenShard>;
  close(): Promise<void>;
}

export interface MakerOptions {
  readonly checkpoint: string;
  readonly folder: string;
  readonly shardBytes: number;
  readonly classes: RecipeClasses;
}

/** What a thread says about a file: what it wrote, or why it could not. */
export type WorkerAnswer =
  | { readonly index: number; readonly written: WrittenShard }
  | {
      readonly index: number;
      readonly name: FailureName | 'Bug';
      readonly message: string;
      readonly code: string | null;
    };

/** Opens the checkpoint again, for a thread of its own. @throws Failure as `convert` does */
export async function openMaker(options: MakerOptions): Promise<ShardMaker> {
  const checkpoint = await openCheckpoint(options.checkpoint);
  try {
    const tensors = await packBase(checkpoint, options.classes, { checked: true });
    const { shards } = planShards('shard', tensors, options.shardBytes);
    return {
      write: (index) => {
        const shard = shards[index];
        if (shard === undefined) throw new RangeError(`shard ${index} of ${shards.length}`);
        return writeShard(options.folder, shard, tensors);
      },
      close: () => checkpoint.close(),
    };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}
