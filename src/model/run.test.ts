import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { parseManifest } from '../format/layout.ts';
import { requestGpu } from '../gpu/device.ts';
import { gpuCases, testDriver } from '../gpu/testing.ts';
import { softwareTuning } from '../gpu/tuning.ts';
import { Model } from './model.ts';
import { openModel, testPackage, testTokens as tokens, tinyConfig } from './testing.ts';
import type { TokenRun } from './token-run.ts';

/** Tokens chosen on the GPU, several steps ahead of what is asked for. */

// Software drivers compile the kernels of a GPU for seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const greedy = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  seed: 1,
};

async function take(run: TokenRun, count: number): Promise<number[]> {
  const taken: number[] = [];
  while (taken.length < count) taken.push(await run.next());
  return taken;
}

describe('golden greedy tokens', () => {
  const fixtures = new URL('../../e2e/fixtures/', import.meta.url);
  const setting = gpuCases[0];

  it.each(['tiny', 'tiny-routed', 'tiny-alibi', 'tiny-llama', 'tiny-qwen2', 'tiny-qwen3'])(
    '%s: 32 of every task come from the GPU',
    async (name) => {
      const read = (file: string): Buffer => readFileSync(new URL(file, fixtures));
      const golden = JSON.parse(read(`golden/${name}.json`).toString()) as {
        tasks: Record<string, { prompt_tokens: number[]; greedy_tokens: number[] }>;
      };
      const manifest = parseManifest(read(`${name}/manifest.json`));
      const gpu = await requestGpu(testDriver('f32'), { ...setting, variant: 'f32' });
      const load = (file: string) => Promise.resolve(read(`${name}/${file}`));
      const model = await Model.load(gpu, manifest, load);
      for (const [task, { prompt_tokens, greedy_tokens }] of Object.entries(golden.tasks)) {
        model.setTask(task);
        await model.prefill(prompt_tokens);
        const run = model.run(greedy, [], greedy_tokens.length);
        expect(await take(run, greedy_tokens.length)).toEqual(greedy_tokens);
        expect(await run.end()).toBe(0);
        expect(model.position).toBe(prompt_tokens.length + greedy_tokens.length - 1);
      }
      model.dispose();
    },
  );
});

describe('a run', () => {
  // An embedding table in three parts: the token is not known when the steps are queued.
  const parts = testPackage({ blockRows: 28 });
  let model: Model;
  const expected: number[] = [];
  beforeAll(async () => {
    model = await openModel(parts, { ...softwareTuning, stepsInFlight: 3, weightBytes: 2048 });
    let logits = await model.prefill(tokens);
    for (let i = 0; i < 12; i++) {
      const best = logits.reduce((at, value, id) => (value > (logits[at] ?? 0) ? id : at), 0);
      expected.push(best);
      logits = await model.decode(best);
    }
  });
  afterAll(() => model.dispose());
  const start = async (most: number, answer: readonly number[] = []): Promise<TokenRun> => {
    model.truncate(0);
    await model.prefill([...tokens, ...answer]);
    return model.run(greedy, answer, most);
  };

  it('gives the tokens that single steps give', async () => {
    expect(new Set(expected).size).toBeGreaterThan(2);
    const run = await start(12);
    expect(await take(run, 12)).toEqual(expected);
    await run.end();
  });

  it('is ahead by the steps in flight, and says which of them were surplus', async () => {
    const run = await start(12);
    expect(await take(run, 2)).toEqual(expected.slice(0, 2));
    expect(await run.end()).toBe(2);
    expect(await run.end()).toBe(0);
    expect(model.position).toBe(tokens.length + 3);
    await expect(run.next()).rejects.toThrow(RangeError);
    // What the surplus steps wrote is that of the tokens they chose.
    model.truncate(tokens.length + 2);
    await model.decode(expected[2] ?? 0);
    const next = model.run(greedy, expected.slice(0, 3), 9);
    expect(await take(next, 9)).toEqual(expected.slice(3));
    await next.end();
  });

  it('goes on with the same penalties where its answer was interrupted', async () => {
    const settings = { ...greedy, temperature: 0.9, repetitionPenalty: 1.5, presencePenalty: 1 };
    model.truncate(0);
    await model.prefill(tokens);
    const whole = model.run(settings, [], 12);
    const all = await take(whole, 12);
    await whole.end();
    model.truncate(0);
    await model.prefill([...tokens, ...all.slice(0, 5)]);
    const rest = model.run(settings, all.slice(0, 5), 7);
    expect(await take(rest, 7)).toEqual(all.slice(5));
    await rest.end();
  });

  it('keeps others from the model until it has ended', async () => {
    const run = await start(4);
    await expect(model.decode(1)).rejects.toMatchObject({ name: 'Busy' });
    expect(() => model.truncate(0)).toThrow(expect.objectContaining({ name: 'Busy' }));
    expect(() => model.run(greedy, [], 1)).toThrow(expect.objectContaining({ name: 'Busy' }));
    await run.end();
    model.truncate(0);
  });

  it('needs logits, room in the cache and a number of tokens', async () => {
    model.truncate(0);
    expect(() => model.run(greedy, [], 1)).toThrow(RangeError);
    await model.prefill(tokens);
    expect(() => model.run(greedy, [], 0)).toThrow(RangeError);
    const room = tinyConfig.capacity - tokens.length + 1;
    const full: unknown = expect.objectContaining({ name: 'PromptTooLong' });
    expect(() => model.run(greedy, [], room + 1)).toThrow(full);
    const run = model.run(greedy, [], room);
    await take(run, room);
    await expect(run.next()).rejects.toThrow(/no more than/);
    await run.end();
    expect(model.position).toBe(tinyConfig.capacity);
    model.truncate(tokens.length);
    expect(() => model.run(greedy, [], 1)).toThrow(/no logits/);
  });

  it('says which logit is no number, and the model can be used again', async () => {
    const broken = testPackage();
    const head = broken.manifest.tensors.find(({ name }) => name === 'head')?.blocks[0];
    if (head === undefined) throw new Error('no head');
    const row = 41;
    const read = async (file: string): Promise<Uint8Array> => {
      const bytes = await broken.read(file);
      if (file !== head.file) return bytes;
      // The scales of one row: f16 NaN.
      const groups = tinyConfig.width / 32;
      const scales = head.offset + tinyConfig.vocab * tinyConfig.width + row * groups * 2;
      return bytes.fill(0x7e, scales, scales + groups * 2);
    };
    const gpu = await requestGpu(testDriver('f32'), { variant: 'f32', tuning: softwareTuning });
    const wrong = await Model.load(gpu, broken.manifest, read);
    await wrong.prefill(tokens);
    const run = wrong.run(greedy, [], 8);
    await expect(run.next()).rejects.toThrow(`logit ${row} is NaN`);
    await expect(run.next()).rejects.toThrow(RangeError);
    wrong.truncate(0);
    wrong.dispose();
  });
});
