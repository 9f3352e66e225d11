import { rm, stat, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Failure } from '../src/failure.ts';
import { sha256 } from '../src/format/hash.ts';
import { parseManifest } from '../src/format/layout.ts';
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
import { folderAnswers, JOURNAL_FILE, openAnswerJournal } from './folder-answers.ts';
import { promptTokens } from './known-answer.ts';
import { checkRunnable } from '../src/onnx/limits.ts';
import { writeOnnx } from './onnx/write.ts';
import { replaceFolder } from './output.ts';
import type { ProgressLog } from './progress-log.ts';
import { checkStorable, readRecipe, type Recipe } from './recipe.ts';
import { roundingReport, type RoundingReport } from './rounding-report.ts';
import { writeInThreads } from './shard-pool.ts';
import { planShards, writeShards, type ShardPlan, type WrittenShard } from './shards.ts';

export interface ConvertOptions {
  readonly checkpoint: string;
  readonly adapter: string | null;
  readonly out: string;
  readonly shardBytes: number;
  /** Also writes `model.onnx`. */
  readonly onnx?: boolean;
  /** False leaves known answers to `convert known-answer`. */
  readonly knownAnswer?: boolean;
  /** How weights are rounded; the recipe `default` where nothing is said. */
  readonly recipe?: Recipe;
  /** Threads that write files; one for every core where nothing is said. */
  readonly threads?: number;
  readonly signal?: AbortSignal;
  /** Told what rounding did, once all weights are written. */
  readonly onReport?: (report: RoundingReport) => void;
  readonly onProgress?: (phase: Phase, done: number, total: number) => void;
}

type Phase = 'weights' | 'known answer';

/**
 * Writes the package of a checkpoint. Memory holds one shard for each thread and one layer. Where
 * an earlier run was killed or interrupted, its whole files and layers are taken over.
 * @returns the manifest, as it was written
 * @throws Failure NotFound, BadCheckpoint, BadTokenizer, BadRecipe, BadManifest, Usage, StorageFull,
 *   Cancelled; with `onnx` what `checkRunnable` says
 */
export async function convert(options: ConvertOptions): Promise<Manifest> {
  const checkpoint = await openCheckpoint(options.checkpoint);
  try {
    const tasks = checkpoint.card.tasks.map(({ id }) => id);
    if (options.recipe !== undefined) checkNeeded(checkpoint);
    const recipe = options.recipe ?? (await readRecipe('default'));
    checkStorable(recipe, checkpoint.config);
    const base = await packBase(checkpoint, recipe.classes);
    const adapter =
      options.adapter === null
        ? null
        : await packAdapter(options.adapter, checkpoint.config, tasks);
    if (options.onnx) {
      const tensors = [...base, ...(adapter?.tensors ?? [])];
      checkRunnable({ id: checkpoint.card.id, config: checkpoint.config, tensors });
    }
    const plan = planShards('shard', base, options.shardBytes);
    const key = await keyOf(checkpoint, plan, recipe);
    let manifest: Manifest | null = null;
    await replaceFolder(options.out, key, async (folder, log) => {
      const [written, checkpointSha256] = await Promise.all([
        writeTensors(folder, log, plan, adapter, { ...options, recipe }),
        digestFiles(checkpoint.folder, checkpoint.files, options.signal),
      ]);
      await writeFile(join(folder, 'tokenizer.json'), checkpoint.tokenizerBytes, { flush: true });
      const draft = await describe(checkpoint, adapter, written, { checkpointSha256, recipe });
      const knownAnswer =
        options.knownAnswer === false
          ? null
          : await knownAnswerOf(draft, checkpoint, folder, options);
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

/** A recipe that somebody names should not be without effect. */
function checkNeeded({ quantized, folder }: Checkpoint): void {
  if (quantized === null) return;
  const what = 'its integers go in as they are; leave --recipe out, or take that file away';
  throw new Failure('BadRecipe', `${folder}: quantized.safetensors: ${what}`);
}

/** Says which bytes the base's files will have: files of another key are never taken over. */
async function keyOf(
  { folder, files }: Checkpoint,
  plan: ShardPlan,
  { classes }: Recipe,
): Promise<string> {
  const sources = await Promise.all(
    files.map(async (name) => {
      const { size, mtimeMs } = await stat(join(folder, name));
      return [name, size, mtimeMs];
    }),
  );
  const all = [packageJson.version, classes, sources, plan];
  return sha256(new TextEncoder().encode(JSON.stringify(all)));
}

interface Written {
  readonly files: readonly FileInfo[];
  readonly tensors: readonly TensorInfo[];
}

/** Base tensors first and in files of their own, so that no adapter changes a byte of them. */
async function writeTensors(
  folder: string,
  log: ProgressLog,
  plan: ShardPlan,
  adapter: PackedAdapter | null,
  options: ConvertOptions & { readonly recipe: Recipe },
): Promise<Written> {
  const { checkpoint, shardBytes, signal, onProgress } = options;
  const { classes } = options.recipe;
  const found: (WrittenShard | null)[] = [];
  for (const shard of plan.shards) found.push(await log.find(folder, shard));
  const total = plan.shards.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = found.reduce((sum, one) => sum + (one?.file.bytes ?? 0), 0);
  const missing = found.flatMap((one, index) => (one === null ? [index] : []));
  const threads = options.threads ?? availableParallelism();
  await writeInThreads(
    missing,
    { checkpoint, folder, shardBytes, classes, threads, signal },
    async (index, written) => {
      await log.add(written);
      found[index] = written;
      done += written.file.bytes;
      onProgress?.('weights', done, total);
    },
  );
  const written = found.flatMap((one) => one ?? []);
  options.onReport?.(roundingReport(plan.tensors, written));
  const files = written.map(({ file }) => file);
  const added = await writeShards(folder, 'adapter', adapter?.tensors ?? [], shardBytes, () =>
    stopIfAborted(signal),
  );
  return { files: [...files, ...added.files], tensors: [...plan.tensors, ...added.tensors] };
}

async function describe(
  { card, config, sampling, quantized, tokenizerBytes }: Checkpoint,
  adapter: PackedAdapter | null,
  { files, tensors }: Written,
  { checkpointSha256, recipe }: { checkpointSha256: string; recipe: Recipe },
): Promise<Manifest> {
  const { name, sha256: sum, classes } = recipe;
  const rounded = quantized === null;
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
      checkpointSha256,
      stages: card.stages,
      data: card.data,
      metrics: card.metrics,
      ...(rounded ? { recipe: { name, sha256: sum, classes } } : {}),
    },
    config,
    quantization: { group: GROUP_SIZE, origin: rounded ? 'convert' : 'training' },
    files: [tokenizerFile, ...files],
    tensors: [...tensors],
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
  const journal = await openAnswerJournal(draft, folder, prompts);
  try {
    const found = await folderAnswers(draft, folder, prompts, {
      signal,
      onProgress,
      recorder: journal,
    });
    await rm(join(folder, JOURNAL_FILE));
    return found;
  } finally {
    await journal.close();
  }
}
