import { basename, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Failure } from '../src/failure.ts';
import { blockBytes, columnsOf } from '../src/format/layout.ts';
import type { RecipeClasses } from '../src/format/recipe.ts';
import type { Tokenizer } from '../src/text/tokenizer.ts';
import { packAdapter } from './adapter.ts';
import { packBase } from './base.ts';
import { openCheckpoint, type Checkpoint } from './checkpoint.ts';
import { readWhole } from './files.ts';
import { compareModels, workOf, type Quality, type TaskTokens } from './quality.ts';
import { blockReader, readManifest } from './reader.ts';
import { checkTied, type Recipe } from './recipe.ts';
import type { PackageTensor } from './tensors.ts';
import { unwritten } from './unwritten.ts';

/** Recipes, and packages, beside the weights that they were made from. */

/** Sentences of our own that no corpus of `training/` has. */
const HELD_OUT = fileURLToPath(new URL('./texts/pediatrics-zh.txt', import.meta.url));
/** More multiply-adds, some minutes of one core, are not done without being asked for. */
const MOST_WORK = 2e11;

const f32 = { dtype: 'f32' } as const;
const UNROUNDED: RecipeClasses = {
  embedding: f32,
  attention_qkv: f32,
  attention_out: f32,
  ffn_gate_up: f32,
  ffn_down: f32,
  vectors: f32,
  head: f32,
};

interface Watched {
  readonly signal?: AbortSignal;
  readonly onProgress?: (phase: string, done: number, total: number) => void;
}

export interface CompareOptions extends Watched {
  readonly checkpoint: string;
  readonly adapter: string | null;
  readonly recipes: readonly Recipe[];
  /** A file of held-out text, a paragraph in each line; null takes ours. */
  readonly text: string | null;
}

/** What a recipe costs and what it does. */
export interface ComparedRecipe extends Quality {
  readonly name: string;
  /** Bits for each weight, scales included: of the 4-bit tensors (null: none), of all of the base. */
  readonly bits4: number | null;
  readonly bits: number;
}

/**
 * Rounds a checkpoint by recipes and compares each with the checkpoint itself; nothing is written.
 * Where training has left integers, they are a row called `training`.
 * @throws Failure NotFound, BadCheckpoint, BadTokenizer, BadRecipe, Usage (no text), Cancelled
 */
export async function compareRecipes(options: CompareOptions): Promise<readonly ComparedRecipe[]> {
  const checkpoint = await openCheckpoint(options.checkpoint);
  try {
    const { config, card, tokenizer } = checkpoint;
    for (const recipe of options.recipes) checkTied(recipe, config);
    const tasks = card.tasks.map(({ id }) => id);
    const texts = await readTexts(options.text, tokenizer, tasks, config.capacity);
    const adapter =
      options.adapter === null ? null : await packAdapter(options.adapter, config, tasks);
    const modelOf = (base: readonly PackageTensor[]) =>
      unwritten(config, [...base, ...(adapter?.tensors ?? [])], adapter?.info ?? null);
    const source = modelOf(await packBase(checkpoint, UNROUNDED, { integers: false }));
    const rows = await rowsOf(checkpoint, options.recipes);
    const { signal, onProgress } = options;
    const qualities = await compareModels(
      source,
      rows.map(({ base }) => modelOf(base)),
      texts,
      { signal, onProgress: (done, total) => onProgress?.('compare', done, total) },
    );
    return qualities.map((quality, i) => {
      const { name, base } = rows[i] ?? { name: '', base: [] };
      const fours = base.filter(({ dtype }) => dtype === 'q4');
      const bits4 = fours.length === 0 ? null : bitsOf(fours);
      return { name, bits4, bits: bitsOf(base), ...quality };
    });
  } finally {
    await checkpoint.close();
  }
}

interface Candidate {
  readonly name: string;
  readonly base: readonly PackageTensor[];
}

async function rowsOf(
  checkpoint: Checkpoint,
  recipes: readonly Recipe[],
): Promise<readonly Candidate[]> {
  const rows: Candidate[] = [];
  for (const { name, classes } of recipes) {
    rows.push({ name, base: await packBase(checkpoint, classes, { integers: false }) });
  }
  if (checkpoint.quantized === null) return rows;
  return [...rows, { name: 'training', base: await packBase(checkpoint, UNROUNDED) }];
}

function bitsOf(tensors: readonly PackageTensor[]): number {
  let [bytes, weights] = [0, 0];
  for (const { dtype, shape } of tensors) {
    const [rows, columns] = [shape[0] ?? 1, columnsOf({ shape: [...shape] })];
    bytes += blockBytes(dtype, rows, columns);
    weights += rows * columns;
  }
  return (8 * bytes) / Math.max(weights, 1);
}

export interface PackageQualityOptions extends Watched {
  readonly checkpoint: string;
  readonly package: string;
  readonly text: string | null;
}

/**
 * Compares a written package with the floats of its checkpoint, both under the package's adapter.
 * @returns why not, where it would take long or the floats are not there
 * @throws Failure as `compareRecipes`
 */
export async function packageQuality(
  options: PackageQualityOptions,
): Promise<Quality | { readonly skipped: string }> {
  const { signal, onProgress } = options;
  const checkpoint = await openCheckpoint(options.checkpoint);
  try {
    const manifest = await readManifest(options.package);
    const tasks = manifest.tasks.map(({ id }) => id);
    const { config, tokenizer } = checkpoint;
    const texts = await readTexts(options.text, tokenizer, tasks, config.capacity);
    const written = { model: manifest, readBlock: blockReader(options.package) };
    const work = 2 * workOf(written, texts);
    if (work > MOST_WORK) {
      const often = work.toExponential(1);
      return { skipped: `${often} multiply-adds, more than ${MOST_WORK.toExponential(0)}` };
    }
    if (!checkpoint.weights.names().includes('model.embed_tokens.weight')) {
      return { skipped: 'the checkpoint has integers only, no floats' };
    }
    const base = await packBase(checkpoint, UNROUNDED, { integers: false });
    const floats = unwritten(config, base, manifest.adapter);
    const own = manifest.tensors.filter(({ name }) => name.startsWith('adapter.'));
    const ofAdapter = new Set(own.flatMap(({ blocks }) => blocks.map(({ file }) => file)));
    const source = {
      model: { ...floats.model, tensors: [...floats.model.tensors, ...own] },
      readBlock: (block: Parameters<typeof floats.readBlock>[0]) =>
        (ofAdapter.has(block.file) ? written : floats).readBlock(block),
    };
    const [quality] = await compareModels(source, [written], texts, {
      signal,
      onProgress: (done, total) => onProgress?.('compare', done, total),
    });
    if (quality === undefined) throw new Error('one model, no row');
    return quality;
  } finally {
    await checkpoint.close();
  }
}

/** Lines of a file as tokens, in turns under the gates of every task. @throws Failure NotFound, Usage */
export async function readTexts(
  path: string | null,
  tokenizer: Tokenizer,
  tasks: readonly string[],
  capacity: number,
): Promise<readonly TaskTokens[]> {
  const file = path ?? HELD_OUT;
  const bytes = await readWhole(dirname(file), basename(file), 'name a file of text in UTF-8');
  let content: string;
  try {
    content = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Failure('Usage', `${file}: not UTF-8`, { cause });
  }
  const texts = content
    .split(/\r?\n/)
    .map((line) => tokenizer.encode(line.trim()).slice(0, capacity))
    .filter((tokens) => tokens.length > 1)
    .map((tokens, i) => ({ task: tasks[i % tasks.length] ?? '', tokens }));
  if (texts.length > 0) return texts;
  throw new Failure('Usage', `${file}: no text: a line of it has to have two tokens at least`);
}

/** A table for a person. */
export function comparedLines(rows: readonly ComparedRecipe[]): readonly string[] {
  const [first] = rows;
  if (first === undefined) return [];
  const table = [
    ['recipe', 'bits (4-bit)', 'bits (base)', 'KL', 'top-1', 'perplexity'],
    ['(source)', '', '', '', '', first.sourcePerplexity.toFixed(3)],
    ...rows.map(({ name, bits4, bits, kl, top1, perplexity }) => [
      name,
      bits4?.toFixed(2) ?? '-',
      bits.toFixed(2),
      kl.toFixed(5),
      percent(top1),
      perplexity.toFixed(3),
    ]),
  ];
  const widths = [0, 1, 2, 3, 4, 5].map((i) =>
    Math.max(...table.map((row) => row[i]?.length ?? 0)),
  );
  const lines = table.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  '),
  );
  return [...lines, `${first.tokens} tokens; KL in nats per token, from the source to the recipe`];
}

/** What the report says of a package, in a line. */
export function qualityLine(quality: Quality | { readonly skipped: string }): string {
  if ('skipped' in quality) return `not compared with the checkpoint: ${quality.skipped}`;
  const { tokens, kl, top1, perplexity, sourcePerplexity } = quality;
  return (
    `against the checkpoint, over ${tokens} tokens: KL ${kl.toFixed(5)} nats, ` +
    `the same likeliest token ${percent(top1)}, perplexity ${perplexity.toFixed(3)} ` +
    `after ${sourcePerplexity.toFixed(3)}`
  );
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
