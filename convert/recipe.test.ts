import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { writeSafetensors } from '../src/format/safetensors.ts';
import { inspect } from './inspect.ts';
import { parseRecipe, readRecipe, shippedRecipes } from './recipe.ts';
import {
  checkpointFiles,
  config,
  f32,
  folderOf,
  modelTensors,
  type Tensors,
  without,
} from './testing.ts';
import { failure, hashes, run } from './testing-run.ts';

interface Json {
  recipe: unknown;
  name: unknown;
  classes: Record<string, Record<string, unknown>>;
}

let text: string;
beforeAll(async () => {
  text = await readFile(join(import.meta.dirname, 'recipes', 'default.json'), 'utf8');
});

/** The default recipe with a change, as a file. */
async function changed(change: (json: Json) => void): Promise<string> {
  const json = JSON.parse(text) as Json;
  change(json);
  return join(await folderOf({ 'mine.json': json }), 'mine.json');
}

describe('a recipe', () => {
  it.each<[string, (json: Json) => void, string]>([
    ['another key', (json) => Object.assign(json, { note: 1 }), 'note: '],
    ['another edition', (json) => (json.recipe = 2), 'recipe: the number of this form'],
    ['no name', (json) => (json.name = ''), 'name: a name has small letters'],
    ['an unknown class', (json) => (json.classes['ffn'] = {}), 'classes.ffn: '],
    ['a class less', (json) => delete json.classes['ffn_down'], 'classes.ffn_down: '],
    ['an unknown type', (json) => (json.classes['head'] = { dtype: 'q3' }), 'classes.head.dtype: '],
    [
      'an unknown key of a class',
      (json) => Object.assign(json.classes['head'] ?? {}, { blocks: 8 }),
      'classes.head.blocks: ',
    ],
    [
      'groups of 64',
      (json) => Object.assign(json.classes['attention_qkv'] ?? {}, { group: 64 }),
      'classes.attention_qkv.group: groups have 32 values',
    ],
    [
      'no way to find scales',
      (json) => (json.classes['attention_qkv'] = { dtype: 'q4', group: 32 }),
      'classes.attention_qkv.scales: ',
    ],
    [
      'a search for 8 bits',
      (json) => Object.assign(json.classes['head'] ?? {}, { scales: 'search' }),
      'classes.head.scales: 8 bits have "naive" scales only',
    ],
    [
      'scales of f16',
      (json) => (json.classes['head'] = { dtype: 'f16', scales: 'naive' }),
      'classes.head.scales: ',
    ],
    [
      'vectors in groups',
      (json) => (json.classes['vectors'] = { dtype: 'q8', group: 32, scales: 'naive' }),
      'classes.vectors.dtype: vectors have no groups: f32 or f16',
    ],
  ])('with %s is refused by name', async (_, change, message) => {
    const path = await changed(change);
    const found = await failure(readRecipe(path));
    expect(found).toContain(`BadRecipe: ${path}: ${message}`);
    expect(found).toContain('the classes are embedding, attention_qkv');
  });

  it('is JSON in a file that is there, or has a name', async () => {
    expect(() => parseRecipe(new TextEncoder().encode('{'), 'x.json')).toThrow('x.json: not JSON');
    expect(await failure(readRecipe('nowhere/mine.json'))).toContain('NotFound: nowhere/mine.json');
    expect(await failure(readRecipe('mine'))).toMatch(/^BadRecipe: mine: .*default.*naive/);
  });

  it('of every name can be read, and says its own name', async () => {
    const names = await shippedRecipes();
    expect(names).toContain('default');
    for (const name of names) expect((await readRecipe(name)).name).toBe(name);
  });
});

describe('a package', () => {
  it('says what it was rounded by, with the hash of the file', async () => {
    const { manifest } = await run(checkpointFiles(), null);
    const { recipe } = manifest.provenance;
    const json = JSON.parse(text) as Json;
    expect(recipe).toEqual({
      name: 'default',
      sha256: createHash('sha256').update(text).digest('hex'),
      classes: json.classes,
    });
    expect(inspect(manifest).join('\n')).toMatch(/by convert, recipe default/);
  });

  it('has the rounding of each class', async () => {
    const path = await changed(({ classes }) => {
      Object.assign(classes['ffn_down'] ?? {}, { scales: 'naive' });
    });
    const options = { shardBytes: 8192 }; // so that tensors have files of their own
    const searched = await run(checkpointFiles(), null, options);
    const naive = await run(checkpointFiles(), null, {
      ...options,
      recipe: await readRecipe('naive'),
    });
    const mixed = await run(checkpointFiles(), null, {
      ...options,
      recipe: await readRecipe(path),
    });
    let [down, other] = [0, 0];
    for (const [i, tensor] of mixed.manifest.tensors.entries()) {
      if (tensor.dtype !== 'q4') continue;
      const bytes = async ({ manifest, out }: typeof mixed) => {
        const [block] = manifest.tensors[i]?.blocks ?? [];
        const file = await readFile(join(out, block?.file ?? ''));
        return file.subarray(block?.offset, (block?.offset ?? 0) + (block?.bytes ?? 0));
      };
      const isDown = tensor.name.endsWith('.down');
      if (isDown) down++;
      else other++;
      const [own, same, different] = isDown ? [mixed, naive, searched] : [mixed, searched, naive];
      expect((await bytes(own)).equals(await bytes(same))).toBe(true);
      expect((await bytes(own)).equals(await bytes(different))).toBe(false);
    }
    expect([down, other]).toEqual([2, 6]);
  });

  it.each([
    ['head', { dtype: 'q4', group: 32, scales: 'search' }, 'stores it as q8, not q4; write q8'],
    ['ffn_down', { dtype: 'f16' }, 'stores it as q4, not f16; write q4'],
    ['vectors', { dtype: 'f16' }, 'stores it as f32, not f16; write f32'],
  ])('is not written with another type of %s', async (name, how, message) => {
    const recipe = await readRecipe(await changed(({ classes }) => (classes[name] = how)));
    const found = await failure(run(checkpointFiles(), null, { recipe }));
    expect(found).toContain(`BadRecipe: recipe default: classes.${name}: a package of format 1`);
    expect(found).toContain(message);
    expect(found).toContain('compare-recipes');
  });

  it('with a tied head has one rounding for it and the embedding', async () => {
    const recipe = await readRecipe(
      await changed(({ classes }) => (classes['head'] = { dtype: 'f16' })),
    );
    const tied = { ...config, tie_word_embeddings: true, architectures: ['LlamaForCausalLM'] };
    const files = { ...checkpointFiles(llamaTensors()), 'config.json': tied };
    expect(hashes((await run(files, null)).manifest, 'shard')).toHaveLength(1);
    expect(await failure(run(files, null, { recipe }))).toContain('ties its head');
  });

  it('of integers from training takes no recipe, and says none', async () => {
    const q = (rows: number, width: number) => ({
      dtype: 'U8' as const,
      shape: [rows, width],
      bytes: new Uint8Array(rows * width).fill(129),
    });
    const integers: Tensors = {};
    for (const [name, { shape }] of Object.entries(modelTensors())) {
      const [rows = 0, columns] = shape;
      if (columns === undefined) continue;
      const eight = name.startsWith('lm_head') || name.includes('embed');
      integers[`${name}.q`] = q(rows, eight ? columns : columns / 2);
      const scale = new Uint16Array((rows * columns) / 32).fill(0x2000);
      integers[`${name}.scale`] = {
        dtype: 'F16',
        shape: [rows, columns / 32],
        bytes: new Uint8Array(scale.buffer),
      };
    }
    const files = { ...checkpointFiles(), 'quantized.safetensors': writeSafetensors(integers) };
    const { manifest } = await run(files, null);
    expect(manifest.quantization.origin).toBe('training');
    expect(manifest.provenance.recipe).toBeUndefined();
    const recipe = await readRecipe('default');
    expect(await failure(run(files, null, { recipe }))).toMatch(
      /^BadRecipe: .*quantized\.safetensors: its integers go in as they are/,
    );
  });
});

/** The tiny model with q, k and v apart and without a head. */
function llamaTensors(): Tensors {
  const tensors: Tensors = {};
  for (const [name, tensor] of Object.entries(without(modelTensors(), 'lm_head.weight'))) {
    if (!name.endsWith('W_pack.weight')) {
      tensors[name] = tensor;
      continue;
    }
    for (const part of ['q_proj', 'k_proj', 'v_proj']) {
      tensors[name.replace('W_pack', part)] = f32([64, 64], (i) => Math.sin(i) / 8);
    }
  }
  return tensors;
}
