import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseManifest } from '../src/format/layout.ts';
import type { Manifest } from '../src/format/manifest.ts';
import { packAdapter } from './adapter.ts';
import { stopIfAborted } from './files.ts';
import { folderAnswers } from './folder-answers.ts';
import { replaceFolder } from './output.ts';
import { readListed, readManifest } from './reader.ts';
import { writeShards } from './shards.ts';

export interface MergeOptions {
  readonly package: string;
  readonly adapter: string;
  readonly out: string;
  readonly shardBytes: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (phase: string, done: number, total: number) => void;
}

/**
 * Writes a package with another adapter. Files of the base go over byte by byte, so a browser that
 * has them fetches the adapter only. `out` may be the package itself.
 * @returns the manifest, as it was written: the one that `convert` would write
 * @throws Failure NotFound, BadManifest, ShardTruncated, ShardCorrupt, BadCheckpoint, Usage, Cancelled
 */
export async function mergeExpert(options: MergeOptions): Promise<Manifest> {
  const { package: source, signal, onProgress } = options;
  const old = await readManifest(source);
  const tasks = old.tasks.map(({ id }) => id);
  const adapter = await packAdapter(options.adapter, old.config, tasks);
  const own = (name: string) => name.startsWith('adapter.');
  const tensors = old.tensors.filter(({ name }) => !own(name));
  const kept = new Set(tensors.flatMap(({ blocks }) => blocks.map(({ file }) => file)));
  const files = old.files.filter(({ name }) => kept.has(name) || name === 'tokenizer.json');
  let manifest: Manifest | null = null;
  await replaceFolder(options.out, null, async (folder) => {
    for (const [i, file] of files.entries()) {
      stopIfAborted(signal);
      await writeFile(join(folder, file.name), await readListed(source, file), { flush: true });
      onProgress?.('base', i + 1, files.length);
    }
    const { shardBytes } = options;
    const added = await writeShards(folder, 'adapter', adapter.tensors, shardBytes, () =>
      stopIfAborted(signal),
    );
    const draft: Manifest = {
      ...old,
      files: [...files, ...added.files],
      tensors: [...tensors, ...added.tensors],
      adapter: adapter.info,
      knownAnswer: null,
    };
    const knownAnswer = await answersAgain(draft, old, folder, options);
    const json = new TextEncoder().encode(`${JSON.stringify({ ...draft, knownAnswer })}\n`);
    manifest = parseManifest(json); // what a reader would refuse is never written
    stopIfAborted(signal);
    await writeFile(join(folder, 'manifest.json'), json, { flush: true });
  });
  if (manifest === null) throw new Error('the folder was replaced without a manifest');
  return manifest;
}

/** The known answers of the new package to the prompts of the old one. */
async function answersAgain(
  draft: Manifest,
  { knownAnswer }: Manifest,
  folder: string,
  options: MergeOptions,
): Promise<Manifest['knownAnswer']> {
  if (knownAnswer === null) return null;
  const stored = Object.entries(knownAnswer.tasks);
  const prompts = new Map(stored.map(([task, { tokens }]) => [task, tokens]));
  return folderAnswers(draft, folder, prompts, options);
}
