import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../src/failure.ts';
import { parseManifest } from '../src/format/layout.ts';
import type { KnownAnswer, Manifest, TensorBlock } from '../src/format/manifest.ts';
import { SIGNATURE_FILE } from '../src/format/signature.ts';
import { Tokenizer } from '../src/text/tokenizer.ts';
import { readCard } from './card.ts';
import { exists, readWhole, stopIfAborted } from './files.ts';
import { folderAnswers, openAnswerJournal, type Prompts } from './folder-answers.ts';
import { promptTokens } from './known-answer.ts';
import { readListed, readManifest } from './reader.ts';

export interface AnswerOptions {
  readonly package: string;
  /** The folder whose pediatricsgpt.json has the prompts; null takes those of the package. */
  readonly checkpoint: string | null;
  readonly signal?: AbortSignal;
  readonly onProgress?: (phase: string, done: number, total: number) => void;
  /** How blocks are read; tests break it. */
  readonly readBlock?: (block: TensorBlock) => Promise<Uint8Array>;
}

/**
 * Computes the known answers of a package from its written shards and puts them into its manifest.
 * Memory holds one block of weights and the keys and values of some dozens of tokens. Interrupted, it
 * goes on after the last layer that was computed. A signature over an older manifest is deleted.
 * @returns whether the manifest has changed
 * @throws Failure NotFound, BadManifest, BadCheckpoint, ShardTruncated, ShardCorrupt, Usage, Cancelled
 */
export async function answerPackage(options: AnswerOptions): Promise<boolean> {
  const { package: folder, signal, onProgress } = options;
  const manifest = await readManifest(folder);
  for (const [i, file] of manifest.files.entries()) {
    stopIfAborted(signal);
    await readListed(folder, file); // answers from broken shards would look like any others
    onProgress?.('files', i + 1, manifest.files.length);
  }
  const prompts = await promptsOf(manifest, options);
  const draft = { ...manifest, knownAnswer: null };
  const journal = await openAnswerJournal(draft, folder, prompts);
  let knownAnswer: KnownAnswer;
  try {
    knownAnswer = await folderAnswers(draft, folder, prompts, { ...options, recorder: journal });
  } catch (error) {
    await journal.close();
    throw error;
  }
  const changed = await replaceManifest(folder, { ...draft, knownAnswer });
  await journal.finish();
  return changed;
}

async function promptsOf(
  manifest: Manifest,
  { package: folder, checkpoint }: AnswerOptions,
): Promise<Prompts> {
  if (checkpoint !== null) {
    const { known_answer_prompts: texts } = await readCard(checkpoint);
    const bytes = await readWhole(folder, 'tokenizer.json', 'copy the package again');
    const prompts = promptTokens(Tokenizer.fromBytes(bytes), manifest, texts);
    if (prompts.size > 0) return prompts;
    const path = join(checkpoint, 'pediatricsgpt.json');
    throw new Failure('Usage', `${path}: known_answer_prompts: none for a task of the package`);
  }
  if (manifest.knownAnswer === null) {
    const what = 'no known answers, so no prompts; name a folder with --checkpoint';
    throw new Failure('Usage', `${folder}: ${what}`);
  }
  const stored = Object.entries(manifest.knownAnswer.tasks);
  return new Map(stored.map(([task, { tokens }]) => [task, tokens]));
}

/** Puts a manifest in the place of the one that is there, all of it or nothing. */
async function replaceManifest(folder: string, manifest: Manifest): Promise<boolean> {
  const json = new TextEncoder().encode(`${JSON.stringify(manifest)}\n`);
  parseManifest(json); // what a reader would refuse is never written
  const before = await readWhole(folder, 'manifest.json', 'it was there a moment ago');
  if (Buffer.compare(before, json) === 0) return false;
  const next = join(folder, 'manifest.json.partial');
  await writeFile(next, json, { flush: true });
  if (await exists(folder, SIGNATURE_FILE)) await rm(join(folder, SIGNATURE_FILE));
  await rename(next, join(folder, 'manifest.json'));
  return true;
}
