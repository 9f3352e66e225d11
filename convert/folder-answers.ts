import { join } from 'node:path';
import type { KnownAnswer, Manifest, TensorBlock } from '../src/format/manifest.ts';
import { stopIfAborted } from './files.ts';
import { Journal } from './journal.ts';
import { answers } from './known-answer.ts';
import { blockReader } from './reader.ts';
import type { Recorder } from './reference.ts';
import { tolerance } from './tolerance.ts';

/** Where an interrupted computation goes on; it lies in the package's folder. */
export const JOURNAL_FILE = 'known-answer.partial';

/** Tokens of the prompt of every task. */
export type Prompts = ReadonlyMap<string, readonly number[]>;

export interface FolderAnswerOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((phase: 'known answer', done: number, total: number) => void) | undefined;
  /** How blocks are read; tests break it. */
  readonly readBlock?: ((block: TensorBlock) => Promise<Uint8Array>) | undefined;
  readonly recorder?: Recorder;
}

/**
 * The known answers of a package whose shards are written, and how far another backend may be off.
 * @param draft its manifest without known answers
 * @throws Failure Cancelled, and what reading says
 */
export async function folderAnswers(
  draft: Manifest,
  folder: string,
  prompts: Prompts,
  { signal, onProgress, readBlock = blockReader(folder), recorder }: FolderAnswerOptions,
): Promise<KnownAnswer> {
  const tasks = await answers(
    draft,
    (block) => {
      stopIfAborted(signal);
      return readBlock(block);
    },
    prompts,
    draft.template.stopIds,
    (done, total) => onProgress?.('known answer', done, total),
    recorder,
  );
  return { tolerance: tolerance(tasks), tasks };
}

/** The journal of that computation: one of another package or other prompts is begun anew. */
export function openAnswerJournal(
  draft: Manifest,
  folder: string,
  prompts: Prompts,
): Promise<Journal> {
  return Journal.open(join(folder, JOURNAL_FILE), JSON.stringify([draft, [...prompts]]));
}
