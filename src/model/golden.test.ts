import { existsSync, readFileSync } from 'node:fs';
import * as v from 'valibot';
import { describe, expect, it, vi } from 'vitest';
import { parseManifest } from '../format/layout.ts';
import { parseSafetensors, toFloat32 } from '../format/safetensors.ts';
import { requestGpu } from '../gpu/device.ts';
import { gpuCases, testDriver, type GpuCase } from '../gpu/testing.ts';
import { Model } from './model.ts';

/** The engine against files that PyTorch wrote from the same dequantised weights, in f32. */

// Software drivers compile kernels for seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

/**
 * How far the engine may be from PyTorch. Hidden states: part of the largest value of the layer;
 * logits: their own unit. f32 differs in the order of sums only, with integers of A and B also by
 * what these round, which is most where an adapter weighs as much as its base, as in tiny-qwen3; f16
 * stores what flows between kernels, and keys and values, with 11 bits.
 */
const tolerance = {
  f32: { hidden: 5e-6, logits: 5e-5, gates: 2e-6 },
  integers: { hidden: 5e-5, logits: 4e-4, gates: 5e-6 },
  f16: { hidden: 2e-3, logits: 3e-2, gates: 1e-3 },
};

const fixtures = new URL('../../e2e/fixtures/', import.meta.url);

function fixture(path: string): Buffer {
  const url = new URL(path, fixtures);
  if (!existsSync(url)) {
    throw new Error(`${url.pathname} is missing: training/runs/fixtures.sh makes it`);
  }
  return readFileSync(url);
}

const ids = v.array(v.pipe(v.number(), v.integer()));
const goldenSchema = v.object({
  mode: v.picklist(['merged', 'routed']),
  tasks: v.record(
    v.string(),
    v.object({
      prompt_tokens: ids,
      greedy_tokens: v.pipe(ids, v.length(32)),
      greedy_text: v.string(),
      smallest_margin: v.number(),
      distinct: v.pipe(v.number(), v.minValue(16)),
    }),
  ),
});

function openGolden(name: string) {
  const json: unknown = JSON.parse(fixture(`golden/${name}.json`).toString());
  const tensors = parseSafetensors(fixture(`golden/${name}.safetensors`));
  return {
    ...v.parse(goldenSchema, json),
    tensor(key: string): Float32Array {
      const tensor = tensors.get(key);
      if (tensor === undefined) throw new Error(`golden/${name}.safetensors has no ${key}`);
      return toFloat32(tensor.dtype, tensor.bytes);
    },
  };
}

async function openModel(name: string, { variant, tuning }: GpuCase): Promise<Model> {
  const manifest = parseManifest(fixture(`${name}/manifest.json`));
  // The others skip matmul_q4, which takes software drivers seconds to compile.
  const matmulFrom = name === 'tiny' ? tuning.matmulFrom : Infinity;
  // Every prompt is longer than a chunk.
  const cut = { ...tuning, matmulFrom, chunk: 8 };
  const gpu = await requestGpu(testDriver(variant), { variant, tuning: cut });
  return Model.load(gpu, manifest, (file) => Promise.resolve(fixture(`${name}/${file}`)));
}

/** The largest difference, in the unit of the values or as a part of the largest. */
function difference(actual: Float32Array, expected: Float32Array, relative: boolean): number {
  expect(actual.length).toBe(expected.length);
  let [worst, largest] = [0, 0];
  expected.forEach((value, i) => {
    const error = Math.abs((actual[i] ?? NaN) - value);
    if (!(error <= worst)) worst = error;
    largest = Math.max(largest, Math.abs(value));
  });
  return relative ? worst / largest : worst;
}

function argmax(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > (values[best] ?? 0) ? i : best), 0);
}

/** One of every architecture; those with an adapter have tasks that differ. */
const packages = [
  ['tiny', 3],
  ['tiny-routed', 3],
  ['tiny-alibi', 1],
  ['tiny-llama', 1],
  ['tiny-qwen2', 1],
  ['tiny-qwen3', 2],
] as const;

describe.each(packages)('%s', (name, tasks) => {
  const golden = openGolden(name);

  it('has tasks with different texts', () => {
    const texts = Object.values(golden.tasks).map((task) => task.greedy_text);
    expect(texts.length).toBe(tasks);
    expect(new Set(texts).size).toBe(tasks);
    for (const task of Object.values(golden.tasks)) {
      expect(new Set(task.greedy_tokens).size).toBe(task.distinct);
    }
  });

  describe.each(gpuCases)('in $title', async (setting) => {
    const model = await openModel(name, setting);
    const integers = setting.variant === 'f32' && setting.tuning.factors === 'integers';
    const allowed = tolerance[integers ? 'integers' : setting.variant];

    it.each(Object.keys(golden.tasks))(
      '%s is what PyTorch computed, layer by layer',
      async (id) => {
        const { prompt_tokens: prompt = [] } = golden.tasks[id] ?? {};
        model.setTask(id);
        const { hidden, logits, gates } = await model.trace(prompt);
        const layers = golden.tensor(`${id}.hidden`);
        const size = layers.length / hidden.length;
        hidden.forEach((actual, i) => {
          const expected = layers.subarray(i * size, (i + 1) * size);
          expect(difference(actual, expected, true), `after layer ${i}`).toBeLessThan(
            allowed.hidden,
          );
        });
        expect(difference(logits, golden.tensor(`${id}.logits`), false)).toBeLessThan(
          allowed.logits,
        );
        expect(gates.size > 0).toBe(golden.mode === 'routed');
        for (const [linear, actual] of gates) {
          const expected = golden.tensor(`${id}.gates.${linear}`);
          expect(difference(actual, expected, false), linear).toBeLessThan(allowed.gates);
        }
      },
    );

    it.each(Object.keys(golden.tasks))('%s comes out token by token as in chunks', async (id) => {
      const { prompt_tokens: prompt = [] } = golden.tasks[id] ?? {};
      const logits = golden.tensor(`${id}.logits`);
      model.setTask(id);
      const { vocab } = model.config;
      for (const [t, token] of prompt.entries()) {
        const actual = await model.decode(token);
        const expected = logits.subarray(t * vocab, (t + 1) * vocab);
        expect(difference(actual, expected, false)).toBeLessThan(allowed.logits);
      }
      const last = logits.subarray(-vocab);
      model.truncate(0);
      expect(difference(await model.prefill(prompt), last, false)).toBeLessThan(allowed.logits);
    });

    it.each(Object.entries(golden.tasks))(
      '%s goes on with the same 32 tokens',
      async (id, task) => {
        model.setTask(id);
        let logits = await model.prefill(task.prompt_tokens);
        const greedy: number[] = [];
        for (const expected of task.greedy_tokens) {
          const best = argmax(logits);
          // Where PyTorch's own margin is below what f16 may lose, its token must be as good as ours.
          const behind = (logits[best] ?? 0) - (logits[expected] ?? 0);
          greedy.push(setting.variant === 'f16' && behind < allowed.logits ? expected : best);
          logits = await model.decode(expected);
        }
        expect(greedy).toEqual(task.greedy_tokens);
      },
    );
  });
});
