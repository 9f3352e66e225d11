import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { Tokenizer } from '../src/text/tokenizer.ts';
import { runCommand } from './cli.ts';
import { packBase } from './base.ts';
import { openCheckpoint } from './checkpoint.ts';
import { compareRecipes, packageQuality, readTexts, type ComparedRecipe } from './compare.ts';
import { compareModels } from './quality.ts';
import { blockReader } from './reader.ts';
import { readRecipe, shippedRecipes } from './recipe.ts';
import { Reference } from './reference.ts';
import { checkpointFiles, folderOf, mergedAdapterFiles, tokenizerJson } from './testing.ts';
import { failure, run, type Run } from './testing-run.ts';
import { unwritten } from './unwritten.ts';

const LINES = '宝宝发烧\nHuman is man\n\n发烧宝宝宝 sister Anna mama\n宝\n';

let checkpoint: string;
let adapter: string;
let text: string;
let package_: Run;
let rows: readonly ComparedRecipe[];

beforeAll(async () => {
  checkpoint = await folderOf(checkpointFiles());
  adapter = await folderOf(mergedAdapterFiles());
  text = join(await folderOf({ 'text.txt': new TextEncoder().encode(LINES) }), 'text.txt');
  package_ = await run(checkpointFiles(), mergedAdapterFiles());
  const recipes = await Promise.all((await shippedRecipes()).map(readRecipe));
  rows = await compareRecipes({ checkpoint, adapter, recipes, text });
});

const row = (name: string): ComparedRecipe => {
  const found = rows.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no row ${name}`);
  return found;
};

/** p(every token | those before it) of the written package, one sequence at a time. */
async function likelihoods(task: string, tokens: readonly number[]): Promise<number[]> {
  const reference = new Reference(package_.manifest, blockReader(package_.out));
  const logits = await reference.forward([{ sequence: reference.start(task), tokens }]);
  return tokens.slice(1).map((id, m) => {
    const row = [...(logits[m] ?? [])].map(Math.exp);
    return (row[id] ?? NaN) / row.reduce((a, b) => a + b, 0);
  });
}

describe('texts', () => {
  it('are lines of at least two tokens, under the tasks in turn, no longer than the model', async () => {
    const tokenizer = Tokenizer.parse(tokenizerJson());
    const texts = await readTexts(text, tokenizer, ['a', 'b'], 5);
    expect(texts.map(({ task }) => task)).toEqual(['a', 'b', 'a']);
    expect(texts[0]?.tokens).toEqual(tokenizer.encode('宝宝发烧'));
    expect(texts[2]?.tokens).toEqual(tokenizer.encode('发烧宝宝宝 sister').slice(0, 5));
  });

  it('of ours are there', async () => {
    const texts = await readTexts(null, Tokenizer.parse(tokenizerJson()), ['a'], 4096);
    expect(texts.length).toBeGreaterThan(40);
  });

  it('that are none are refused', async () => {
    const tokenizer = Tokenizer.parse(tokenizerJson());
    const folder = await folderOf({
      empty: new Uint8Array([10, 10]),
      bytes: new Uint8Array([0xff]),
    });
    const read = (name: string) => readTexts(join(folder, name), tokenizer, ['a'], 9);
    expect(await failure(read('empty'))).toMatch(/^Usage: .*empty: no text/);
    expect(await failure(read('bytes'))).toMatch(/^Usage: .*bytes: not UTF-8/);
    expect(await failure(read('none'))).toMatch(/^NotFound: .*none: no such file; name a file/);
  });
});

describe('comparing recipes', () => {
  it('puts them in the order of what they keep', () => {
    const order = ['f16', 'all-8bit', 'default', 'all-4bit'].map((name) => row(name).kl);
    expect(order).toEqual([...order].sort((a, b) => a - b));
    expect(order[0]).toBeGreaterThan(0);
    expect(row('default').kl).toBeLessThan(row('naive').kl);
    expect(row('f16').kl).toBeLessThan(1e-5);
    expect(row('f16').top1).toBe(1);
  });

  it('counts bits, scales included', () => {
    expect(row('default').bits4).toBe(4.5);
    expect(row('all-8bit').bits4).toBeNull();
    expect(row('all-8bit').bits).toBeGreaterThan(8.5); // vectors are f32
    expect(row('all-8bit').bits).toBeLessThan(8.6);
    expect(row('default').bits).toBe(row('naive').bits);
    expect(row('all-4bit').bits).toBeLessThan(row('default').bits);
  });

  it('has the perplexity of the package that convert writes', async () => {
    const tokenizer = Tokenizer.parse(tokenizerJson());
    const tasks = package_.manifest.tasks.map(({ id }) => id);
    const texts = await readTexts(text, tokenizer, tasks, 64);
    const all: number[] = [];
    for (const { task, tokens } of texts) all.push(...(await likelihoods(task, tokens)));
    const mean = all.reduce((sum, p) => sum - Math.log(p), 0) / all.length;
    expect(row('default').tokens).toBe(all.length);
    expect(row('default').perplexity).toBeCloseTo(Math.exp(mean), 6);
    const written = await packageQuality({ checkpoint, package: package_.out, text });
    const found = new Map<string, unknown>(Object.entries(row('default')));
    expect(Object.keys(written)).toContain('kl');
    for (const [key, value] of Object.entries(written)) {
      expect(value, key).toBeCloseTo(Number(found.get(key)), 9);
    }
  });

  it('has the mean of KL(source || recipe) and how often both prefer the same', async () => {
    const opened = await openCheckpoint(checkpoint);
    const { config, tokenizer } = opened;
    const texts = await readTexts(text, tokenizer, ['medkqa'], 64);
    const logits = async (name: string) => {
      const { classes } = await readRecipe(name);
      const { model, readBlock } = unwritten(config, await packBase(opened, classes), null);
      const reference = new Reference(model, readBlock);
      const found: number[][] = [];
      for (const { task, tokens } of texts) {
        const all = await reference.forward([{ sequence: reference.start(task), tokens }]);
        found.push(...all.slice(0, -1).map((row) => [...row]));
      }
      return found.map((row) => {
        const sum = row.reduce((total, logit) => total + Math.exp(logit), 0);
        return row.map((logit) => Math.exp(logit) / sum);
      });
    };
    const modelOf = async (name: string) =>
      unwritten(config, await packBase(opened, (await readRecipe(name)).classes), null);
    const pair = await compareModels(await modelOf('f16'), [await modelOf('all-4bit')], texts);
    const [p, q] = [await logits('f16'), await logits('all-4bit')];
    await opened.close();
    const kl = p.map((row, m) =>
      row.reduce((sum, own, i) => sum + own * Math.log(own / (q[m]?.[i] ?? NaN)), 0),
    );
    const best = (row: readonly number[] = []) => row.indexOf(Math.max(...row));
    const same = p.filter((row, m) => best(row) === best(q[m])).length;
    expect(pair[0]?.kl).toBeCloseTo(kl.reduce((a, b) => a + b, 0) / kl.length, 9);
    expect(pair[0]?.top1).toBe(same / p.length);
    expect(same).toBeLessThan(p.length);
  });

  it('looks at the adapter, too', async () => {
    const recipes = [await readRecipe('default')];
    const [bare] = await compareRecipes({ checkpoint, adapter: null, recipes, text });
    expect(bare?.sourcePerplexity).not.toBeCloseTo(row('default').sourcePerplexity, 3);
  });

  it('stops when it is told to', async () => {
    const signal = AbortSignal.abort();
    const recipes = [await readRecipe('default')];
    const found = failure(compareRecipes({ checkpoint, adapter, recipes, text, signal }));
    expect(await found).toContain('Cancelled');
  });
});

async function command(...args: string[]) {
  let [out, error] = ['', ''];
  const code = await runCommand(args, {
    out: (text) => (out += text),
    error: (text) => (error += text),
    signal: new AbortController().signal,
  });
  return { code, out: stripVTControlCharacters(out), error: stripVTControlCharacters(error) };
}

describe('on the command line', () => {
  it('compare-recipes prints a table', async () => {
    const args = ['--adapter', adapter, '--recipe', 'naive', '--recipe', 'default', '--text', text];
    const { code, out } = await command('compare-recipes', checkpoint, ...args);
    expect(code).toBe(0);
    const { bits, kl, top1, perplexity, tokens } = row('naive');
    const cells = [(4.5).toFixed(2), bits.toFixed(2), kl.toFixed(5), (100 * top1).toFixed(1)];
    expect(out).toMatch(
      new RegExp(`^naive +${cells.join(' +')} % +${perplexity.toFixed(3)}$`, 'm'),
    );
    expect(out.split('\n').slice(1, 4).join()).toMatch(/^\(source\).*,naive.*,default/);
    expect(out).toContain(`${tokens} tokens; KL in nats`);
  });

  it('--report has it for the package that was written', async () => {
    const folder = await folderOf({});
    const report = join(folder, 'report.json');
    const options = ['--out', join(folder, 'package'), '--report', report, '--text', text];
    const { code, out } = await command(checkpoint, '--adapter', adapter, ...options);
    expect(code).toBe(0);
    expect(out).toContain(`KL ${row('default').kl.toFixed(5)} nats`);
    const json = JSON.parse(await readFile(report, 'utf8')) as Record<string, unknown>;
    expect(json['quality']).toMatchObject({ tokens: row('default').tokens });
    expect(json['recipe']).toEqual(package_.manifest.provenance.recipe);
  });

  it('a recipe that cannot be used ends with 1', async () => {
    const { code, error } = await command(checkpoint, '--out', 'x', '--recipe', 'all-4bit');
    expect(code).toBe(1);
    expect(error).toMatch(/^BadRecipe: recipe all-4bit: classes\.embedding: .*as q8, not q4/);
  });
});
