import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { parseSafetensors, toFloat32 } from '../src/format/safetensors.ts';
import { blockReader, readManifest } from './reader.ts';
import { Reference } from './reference.ts';
import { verify } from './verify.ts';

const fixtures = join(import.meta.dirname, '../e2e/fixtures');

/** PyTorch computes in f32, the reference in f64: differences of single logits around 10. */
const TOLERANCE = 1e-4;

const golden = v.object({
  tasks: v.record(
    v.string(),
    v.object({ prompt_tokens: v.array(v.number()), greedy_tokens: v.array(v.number()) }),
  ),
});

async function readGolden(name: string) {
  const json: unknown = JSON.parse(
    await readFile(join(fixtures, 'golden', `${name}.json`), 'utf8'),
  );
  const bytes = await readFile(join(fixtures, 'golden', `${name}.safetensors`));
  return { ...v.parse(golden, json), tensors: parseSafetensors(bytes) };
}

function best(logits: Float64Array): number {
  return logits.reduce((top, logit, id) => (logit > (logits[top] ?? -Infinity) ? id : top), 0);
}

const packages = ['tiny', 'tiny-routed', 'tiny-alibi', 'tiny-llama', 'tiny-qwen2', 'tiny-qwen3'];

describe.each(packages)('the package %s', (name) => {
  const folder = join(fixtures, name);

  it('is whole, and its known answers come out again', async () => {
    const findings = await verify(folder, { recompute: true });
    expect(findings.filter(({ ok }) => !ok)).toEqual([]);
  });

  it('means to the reference what PyTorch computed: logits and 32 greedy tokens', async () => {
    const { tasks, tensors } = await readGolden(name);
    const model = new Reference(await readManifest(folder), blockReader(folder));
    expect(Object.keys(tasks).length).toBeGreaterThan(0);
    for (const [task, { prompt_tokens: prompt, greedy_tokens: greedy }] of Object.entries(tasks)) {
      const sequence = model.start(task);
      let rows = await model.forward([{ sequence, tokens: prompt }]);
      const stored = tensors.get(`${task}.logits`);
      if (stored === undefined) throw new Error(`no golden logits of ${task}`);
      const logits = toFloat32(stored.dtype, stored.bytes);
      const ours = rows.flatMap((row) => [...row]);
      expect(ours.length).toBe(logits.length);
      const worst = ours.reduce((m, x, i) => Math.max(m, Math.abs(x - (logits[i] ?? NaN))), 0);
      expect(worst).toBeLessThan(TOLERANCE);
      const tokens: number[] = [];
      while (tokens.length < greedy.length) {
        tokens.push(best(rows.at(-1) ?? new Float64Array()));
        rows = await model.forward([{ sequence, tokens: tokens.slice(-1) }]);
      }
      expect(tokens).toEqual(greedy);
    }
  });
});
