import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256 } from '../src/format/hash.ts';
import { blockBytes, columnsOf, parseManifest } from '../src/format/layout.ts';
import {
  FORMAT_VERSION,
  GROUP_SIZE,
  type FileInfo,
  type KnownAnswer,
  type Manifest,
  type TensorInfo,
} from '../src/format/manifest.ts';
import packageJson from '../package.json' with { type: 'json' };
import { packAdapter, type PackedAdapter } from './adapter.ts';
import { packBase } from './base.ts';
import { openCheckpoint, type Checkpoint } from './checkpoint.ts';
import { digestFiles, stopIfAborted } from './files.ts';
import { answers, promptTokens } from './known-answer.ts';
import { checkRunnable, writeOnnx } from './onnx/write.ts';
import { replaceFolder } from './output.ts';
import { blockReader } from './reader.ts';
import { ShardWriter } from './shards.ts';
import type { PackageTensor } from './tensors.ts';
import { tolerance } from './tolerance.ts';

export interface ConvertOptions {
  readonly checkpoint: string;
  readonly adapter: string | null;
  readonly out: string;
  readonly shardBytes: number;
  /** Also writes `model.onnx`. */
  readonly onnx?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (phase: Phase, done: number, total: number) => void;
}

type Phase = 'weights' | 'known answer';

/**
 * Writes the package of a checkpoint. Memory holds one shard and one layer at a time.
 * @returns the manifest, as it was written
 * @throws Failure NotFound, BadCheckpoint, BadTokenizer, BadManifest, Usage, Cancelled; with `onnx`
 *   what `checkRunnable` says
 */
export async function convert(options: ConvertOptions): Promise<Manifest> {
  const checkpoint = await openCheckpoint(options.checkpoint);
  try {
    const tasks = checkpoint.card.tasks.map(({ id }) => id);
    const base = await packBase(checkpoint);
    const adapter =
      options.adapter === null
        ? null
        : await packAdapter(options.adapter, checkpoint.config, tasks);
    if (options.onnx) {
      const tensors = [...base, ...(adapter?.tensors ?? [])];
      checkRunnable({ id: checkpoint.card.id, config: checkpoint.config, tensors });
    }
    let manifest: Manifest | null = null;
    await replaceFolder(options.out, async (folder) => {
      const { files, tensors } = await writeTensors(folder, base, adapter, options);
      await writeFile(join(folder, 'tokenizer.json'), checkpoint.tokenizerBytes, { flush: true });
      const draft = await describe(checkpoint, adapter, files, tensors, options.signal);
      const knownAnswer = await knownAnswerOf(draft, checkpoint, folder, options);
      const json = new TextEncoder().encode(`${JSON.stringify({ ...draft, knownAnswer })}\n`);
      manifest = parseManifest(json); // what a reader would refuse is never written
      stopIfAborted(options.signal);
      await writeFile(join(folder, 'manifest.json'), json, { flush: true });
      if (options.onnx) await writeOnnx(folder);
    });
    if (manifest === null) throw new Error('the folder was replaced without a manifest');
    return manifest;
  } finally {
    await checkpoint.close();
  }
}

/** Base tensors first and in files of their own, so that no adapter changes a byte of them. */
async function writeTensors(
  folder: string,
  base: readonly PackageTensor[],
  adapter: PackedAdapter | null,
  { shardBytes, signal, onProgress }: ConvertOptions,
): Promise<{ files: FileInfo[]; tensors: TensorInfo[] }> {
  const rooms: [string, readonly PackageTensor[]][] = [
    ['shard', base],
    ['adapter', adapter?.tensors ?? []],
  ];
  const size = ({ dtype, shape }: PackageTensor) =>
    blockBytes(dtype, shape[0] ?? 1, columnsOf({ shape: [...shape] }));
  const total = rooms.flatMap(([, tensors]) => tensors).reduce((sum, one) => sum + size(one), 0);
  let done = 0;
  const files: FileInfo[] = [];
  const written: TensorInfo[] = [];
  for (const [stem, tensors] of rooms) {
    const writer = new ShardWriter(folder, stem, shardBytes);
    for (const tensor of tensors) {
      stopIfAborted(signal);
      await writer.add(tensor);
      done += size(tensor);
      onProgress?.('weights', done, total);
    }
    await writer.finish();
    files.push(...writer.files);
    written.push(...writer.tensors);
  }
  return { files, tensors: written };
}

async function describe(
  { card, config, sampling, quantized, tokenizerBytes, folder, files: sources }: Checkpoint,
  adapter: PackedAdapter | null,
  files: readonly FileInfo[],
  tensors: TensorInfo[],
  signal: AbortSignal | undefined,
): Promise<Manifest> {
  const tokenizerFile = {
    name: 'tokenizer.json',
    bytes: tokenizerBytes.length,
    sha256: await sha256(tokenizerBytes),
  };
  return {
    format: FORMAT_VERSION,
    id: card.id,
    name: card.name,
    licence: card.licence,
    intendedUse: card.intended_use,
    limits: card.limits,
    provenance: {
      converter: `${packageJson.name} ${packageJson.version}`,
      checkpointSha256: await digestFiles(folder, sources, signal),
      stages: card.stages,
      data: card.data,
      metrics: card.metrics,
    },
    config,
    quantization: { group: GROUP_SIZE, origin: quantized === null ? 'convert' : 'training' },
    files: [tokenizerFile, ...files],
    tensors,
    adapter: adapter?.info ?? null,
    tasks: card.tasks,
    template: card.template,
    sampling,
    knownAnswer: null,
  };
}

async function knownAnswerOf(
  draft: Manifest,
  { card, tokenizer }: Checkpoint,
  folder: string,
  { signal, onProgress }: ConvertOptions,
): Promise<KnownAnswer | null> {
  const prompts = promptTokens(tokenizer, draft, card.known_answer_prompts);
  if (prompts.size === 0) return null;
  const read = blockReader(folder);
  const tasks = await answers(
    draft,
    (block) => {
      stopIfAborted(signal);
      return read(block);
    },
    prompts,
    draft.template.stopIds,
    (done, total) => onProgress?.('known answer', done, total),
  );
  return { tolerance: tolerance(tasks), tasks };
}
