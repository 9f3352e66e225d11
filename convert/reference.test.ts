import { beforeAll, describe, expect, it } from 'vitest';
import type { Manifest } from '../src/format/manifest.ts';
import { convert } from './convert.ts';
import { blockReader } from './reader.ts';
import { Reference } from './reference.ts';
import { checkpointFiles, folderOf, mergedAdapterFiles, routedAdapterFiles } from './testing.ts';

const prompt = [75, 120, 4, 260, 33, 75, 90];

interface Package {
  readonly manifest: Manifest;
  readonly out: string;
}

let merged: Package;
let routed: Package;

async function pack(adapter: Record<string, unknown>): Promise<Package> {
  const out = `${await folderOf({})}/package`;
  const manifest = await convert({
    checkpoint: await folderOf(checkpointFiles()),
    adapter: await folderOf(adapter),
    out,
    shardBytes: 1 << 24,
  });
  return { manifest, out };
}

beforeAll(async () => {
  merged = await pack(mergedAdapterFiles());
  routed = await pack(routedAdapterFiles());
});

function reference({ manifest, out }: Package, adapter = manifest.adapter): Reference {
  return new Reference({ ...manifest, adapter }, blockReader(out));
}

async function logits(model: Reference, task: string, tokens = prompt) {
  return model.forward([{ sequence: model.start(task), tokens }]);
}

function difference(a: readonly Float64Array[], b: readonly Float64Array[]): number {
  expect(a.length).toBe(b.length);
  return Math.max(
    ...a.map((row, m) => Math.max(...row.map((x, i) => Math.abs(x - (b[m]?.[i] ?? NaN))))),
  );
}

describe('the reference', () => {
  it('gives the same logits token by token as all at once', async () => {
    const model = reference(merged);
    const whole = await logits(model, 'medkqa');
    const sequence = model.start('medkqa');
    const parts = [];
    for (const token of prompt)
      parts.push(...(await model.forward([{ sequence, tokens: [token] }])));
    expect(difference(whole, parts)).toBeLessThan(1e-12);
  });

  it('keeps sequences of one pass apart', async () => {
    const model = reference(merged);
    const steps = [
      { sequence: model.start('medkqa'), tokens: prompt },
      { sequence: model.start('evidiag'), tokens: [9, 8] },
    ];
    const together = await model.forward(steps);
    expect(difference(together.slice(0, 7), await logits(model, 'medkqa'))).toBe(0);
    expect(difference(together.slice(7), await logits(model, 'evidiag', [9, 8]))).toBe(0);
  });

  it('sees the past and not the future', async () => {
    const model = reference(merged);
    const whole = await logits(model, 'medkqa');
    const other = await logits(model, 'medkqa', [...prompt.slice(0, 5), 1, 2]);
    expect(difference(whole.slice(0, 5), other.slice(0, 5))).toBe(0);
    const changed = await logits(model, 'medkqa', [76, ...prompt.slice(1)]);
    expect(difference(whole.slice(6), changed.slice(6))).toBeGreaterThan(0.01);
  });

  it('knows positions only as distances, and the order of tokens', async () => {
    const model = reference(merged);
    const from = async (position: number, tokens: readonly number[]) => {
      const sequence = model.start('medkqa');
      sequence.length = position;
      const rows = [];
      for (const token of tokens)
        rows.push(...(await model.forward([{ sequence, tokens: [token] }])));
      return rows;
    };
    expect(difference(await from(0, prompt), await from(23, prompt))).toBeLessThan(1e-9);
    const [, , ordered] = await from(0, [5, 6, 7]);
    const [, , swapped] = await from(0, [6, 5, 7]);
    const none = new Float64Array();
    expect(difference([ordered ?? none], [swapped ?? none])).toBeGreaterThan(0.001);
  });

  it('obeys the gates of the task', async () => {
    const model = reference(merged);
    const one = await logits(model, 'medkqa');
    const two = await logits(model, 'evidiag');
    expect(difference(one, two)).toBeGreaterThan(0.01);
    expect(difference(one, await logits(reference(merged, null), 'medkqa'))).toBeGreaterThan(0.01);
  });

  it('routes each token by itself: a router of zeros is a uniform gate', async () => {
    const { adapter } = routed.manifest;
    if (adapter === null) throw new Error('no adapter');
    const rows = adapter.linears.map(() => [1 / 3, 1 / 3, 1 / 3]);
    const linears = adapter.linears.map((linear) => ({ ...linear, router: null }));
    const uniform = { ...adapter, linears, gates: { medkqa: rows } };
    const byToken = await logits(reference(routed), 'medkqa');
    const bySame = await logits(reference(routed, uniform), 'medkqa');
    expect(difference(byToken, bySame)).toBeGreaterThan(0.01);

    const names = new Set(adapter.linears.map(({ router }) => router));
    const blocks = new Set(
      routed.manifest.tensors.flatMap(({ name, blocks }) => (names.has(name) ? blocks : [])),
    );
    const read = blockReader(routed.out);
    const zeroed = new Reference(routed.manifest, async (block) => {
      const bytes = await read(block);
      return blocks.has(block) ? bytes.fill(0) : bytes;
    });
    expect(difference(await logits(zeroed, 'medkqa'), bySame)).toBeLessThan(1e-12);
  });
});
