import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { runCommand } from './cli.ts';
import { readRecipe } from './recipe.ts';
import type { RoundingReport } from './rounding-report.ts';
import { checkpointFiles, folderOf, modelTensors, values } from './testing.ts';
import { read, run } from './testing-run.ts';

const relative = (original: readonly number[], stored: Float32Array): number => {
  const squares = original.reduce((sum, value) => sum + value * value, 0);
  const error = original.reduce((sum, value, i) => sum + (value - (stored[i] ?? NaN)) ** 2, 0);
  return Math.sqrt(error / squares);
};

async function reportOf(recipe: 'default' | 'naive', shardBytes: number): Promise<RoundingReport> {
  let report: RoundingReport | null = null;
  const onReport = (made: RoundingReport) => (report = made);
  await run(checkpointFiles(), null, { recipe: await readRecipe(recipe), shardBytes, onReport });
  if (report === null) throw new Error('no report');
  return report;
}

describe('the report of rounding', () => {
  it('says how far what is stored is from what was there', async () => {
    const report = await reportOf('default', 1 << 24);
    const tensors = modelTensors();
    const made = await run(checkpointFiles(), null);
    const originals: Record<string, string[]> = {
      embed: ['model.embed_tokens.weight'],
      'layers.1.gate_up': [
        'model.layers.1.mlp.gate_proj.weight',
        'model.layers.1.mlp.up_proj.weight',
      ],
      'layers.0.down': ['model.layers.0.mlp.down_proj.weight'],
    };
    for (const [name, sources] of Object.entries(originals)) {
      const original = sources.flatMap((source) => [...values(tensors[source])]);
      const row = report.tensors.find((one) => one.name === name);
      expect(row?.error).toBeCloseTo(relative(original, await read(made, name)), 7);
      expect(row?.parameters).toBe(original.length);
    }
    expect(report.tensors).toHaveLength(2 + 2 * 4);
    expect(report.classes.map(({ name }) => name)).toContain('layers.*.qkv');
  });

  it('is the same, but for the order of sums, where tensors are cut', async () => {
    const [whole, cut] = [await reportOf('default', 1 << 24), await reportOf('default', 2500)];
    for (const [i, row] of whole.tensors.entries()) {
      expect(cut.tensors[i]).toMatchObject({ name: row.name, parameters: row.parameters });
      expect(cut.tensors[i]?.error).toBeCloseTo(row.error, 12);
    }
  });

  it('shows that the search is better than naive rounding in every 4-bit tensor', async () => {
    const [search, naive] = [await reportOf('default', 1 << 24), await reportOf('naive', 1 << 24)];
    for (const [i, { dtype, error }] of search.tensors.entries()) {
      const other = naive.tensors[i]?.error ?? 0;
      if (dtype === 'q4') expect(error).toBeLessThan(other);
      else expect(error).toBe(other);
    }
  });

  it('is printed by class, and written tensor by tensor', async () => {
    const folder = await folderOf({});
    const checkpoint = await folderOf(checkpointFiles());
    let out = '';
    const report = join(folder, 'report.json');
    const args = [checkpoint, '--out', join(folder, 'package'), '--report', report];
    const code = await runCommand(args, {
      out: (text) => (out += text),
      error: (text) => (out += text),
      signal: new AbortController().signal,
    });
    expect(code).toBe(0);
    expect(stripVTControlCharacters(out)).toMatch(
      /layers\.\*\.qkv +q4 {2}error \d+\.\d{3} %, at most \d+\.\d{3} % \(layers\.[01]\.qkv\)/,
    );
    const { tensors } = JSON.parse(await readFile(report, 'utf8')) as RoundingReport;
    expect(tensors.map(({ name }) => name)).toContain('layers.1.down');
  });
});
