import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import { Failure } from '../src/failure.ts';
import { sha256 } from '../src/format/hash.ts';
import type { ModelConfig } from '../src/format/manifest.ts';
import { baseTensors } from '../src/format/meaning.ts';
import {
  classOf,
  recipeClasses,
  TENSOR_CLASSES,
  type RecipeClasses,
} from '../src/format/recipe.ts';
import { readWhole } from './files.ts';

/** Recipe files: how every class of tensors is rounded. Those in `recipes/` have names. */

export interface Recipe {
  readonly name: string;
  /** Of the file, so that `sha256sum` finds it again. */
  readonly sha256: string;
  readonly classes: RecipeClasses;
}

const SHIPPED = fileURLToPath(new URL('./recipes/', import.meta.url));

const recipe = v.strictObject({
  recipe: v.literal(1, 'the number of this form of recipes is 1'),
  name: v.pipe(
    v.string(),
    v.regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'a name has small letters, digits, dots and dashes'),
  ),
  classes: recipeClasses,
});

/** Names of the recipes that come with convert. */
export async function shippedRecipes(): Promise<readonly string[]> {
  const names = (await readdir(SHIPPED)).filter((name) => name.endsWith('.json'));
  return names.map((name) => basename(name, '.json')).sort();
}

/**
 * Reads a recipe that comes with convert, by its name, or a file (a path, or anything in .json).
 * @throws Failure BadRecipe, NotFound
 */
export async function readRecipe(nameOrPath: string): Promise<Recipe> {
  const isPath = /[\\/]|\.json$/.test(nameOrPath);
  const known = isPath ? [] : await shippedRecipes();
  if (!isPath && !known.includes(nameOrPath)) {
    const what = `no recipe of that name; take ${known.join(', ')} or a file in .json`;
    throw new Failure('BadRecipe', `${nameOrPath}: ${what}`);
  }
  const path = isPath ? nameOrPath : join(SHIPPED, `${nameOrPath}.json`);
  const bytes = await readWhole(dirname(path), basename(path), 'name a recipe file');
  return { ...parseRecipe(bytes, path), sha256: await sha256(bytes) };
}

/** @throws Failure BadRecipe that names the field, what is wrong with it, and what may stand there */
export function parseRecipe(bytes: Uint8Array, path: string): Omit<Recipe, 'sha256'> {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new Failure('BadRecipe', `${path}: not JSON in UTF-8`, { cause });
  }
  const result = v.safeParse(recipe, json);
  if (!result.success) {
    const issue = result.issues[0];
    const hint = `the classes are ${TENSOR_CLASSES.join(', ')}; see convert/README.md, Recipe`;
    const where = v.getDotPath(issue) ?? 'file';
    throw new Failure('BadRecipe', `${path}: ${where}: ${issue.message}; ${hint}`);
  }
  return { name: result.output.name, classes: result.output.classes };
}

/** A tied head is the embedding. @throws Failure BadRecipe */
export function checkTied({ name, classes }: Recipe, config: ModelConfig): void {
  if (!config.tiedHead || JSON.stringify(classes.head) === JSON.stringify(classes.embedding))
    return;
  const what = 'this model ties its head to the embedding; give both classes the same';
  throw new Failure('BadRecipe', `recipe ${name}: classes.head: ${what}`);
}

/** A package has one type for every class. @throws Failure BadRecipe */
export function checkStorable(found: Recipe, config: ModelConfig): void {
  checkTied(found, config);
  for (const { name, dtype } of baseTensors(config)) {
    const wanted = found.classes[classOf(name)].dtype;
    if (wanted === dtype) continue;
    const what = `a package of format 1 stores it as ${dtype}, not ${wanted}; write ${dtype}`;
    const instead = 'compare-recipes measures this recipe without writing a package';
    throw new Failure(
      'BadRecipe',
      `recipe ${found.name}: classes.${classOf(name)}: ${what} (${instead})`,
    );
  }
}
