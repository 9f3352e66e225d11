import { readFile } from 'node:fs/promises';
import { expect, it, vi } from 'vitest';
import { requestGpu } from '../gpu/device.ts';
import { gpuCases, testDriver } from '../gpu/testing.ts';
import type { SamplingSettings } from '../worker/api.ts';
import { testRuntime } from './backends/testing.ts';
import { Engine } from './engine.ts';

/** The same answers from both backends. */

vi.setConfig({ testTimeout: 240_000 });

const greedy: SamplingSettings = {
  temperature: 0,
  topK: 0,
  topP: 1,
  repetitionPenalty: 1,
  maxTokens: 24,
};
const ways: readonly SamplingSettings[] = [
  greedy,
  { ...greedy, repetitionPenalty: 1.2, presencePenalty: 0.3 },
  { ...greedy, temperature: 0.8, topK: 20, topP: 0.9 },
  { ...greedy, temperature: 1.1, minP: 0.01 },
];

it('the GPU in f32 and the CPU choose the same tokens for the same seed', async () => {
  const setting = gpuCases.find(({ variant }) => variant === 'f32');
  if (setting === undefined) throw new Error('no way to run kernels in f32');
  const folder = new URL('../../e2e/fixtures/tiny/', import.meta.url);
  const source = { read: (file: string) => readFile(new URL(file, folder)) };
  const gpu = await Engine.open(source, await requestGpu(testDriver('f32'), setting));
  const cpu = await Engine.open(source, null, { cpu: () => Promise.resolve(testRuntime) });
  const texts = new Set<string>();
  for (const sampling of ways) {
    for (const task of ['medkqa', 'evidiag']) {
      const turns = [{ role: 'user' as const, text: '宝宝发烧两天，还咳嗽。' }];
      const plan = { task, turns, sampling, seed: 5 };
      const expected = await gpu.generate(plan, () => undefined);
      const actual = await cpu.generate(plan, () => undefined);
      expect(actual.tokens).toEqual(expected.tokens);
      expect(actual.finish).toBe(expected.finish);
      texts.add(actual.text);
    }
  }
  expect(texts.size).toBeGreaterThan(4);
  gpu.dispose();
  cpu.dispose();
});

it('of both the faster one answers, and is taken at once the next time', async () => {
  const setting = gpuCases.find(({ variant }) => variant === 'f32');
  if (setting === undefined) throw new Error('no way to run kernels in f32');
  const folder = new URL('../../e2e/fixtures/tiny/', import.meta.url);
  const source = { read: (file: string) => readFile(new URL(file, folder)) };
  const winners: string[] = [];
  const faster = {
    get: () => Promise.resolve(winners.at(-1) === 'onnx' ? ('onnx' as const) : null),
    set: (winner: string) => Promise.resolve(void winners.push(winner)),
  };
  const cpu = () => Promise.resolve(testRuntime);
  const turns = [{ role: 'user' as const, text: '宝宝发烧两天，还咳嗽。' }];
  const plan = { task: 'medkqa', turns, sampling: greedy, seed: 5 };
  const alone = await Engine.open(source, null, { cpu });
  const expected = await alone.generate(plan, () => undefined);
  alone.dispose();
  for (let visit = 0; visit < 2; visit++) {
    const gpu = await requestGpu(testDriver('f32'), setting);
    const engine = await Engine.open(source, gpu, { cpu, faster });
    const actual = await engine.generate(plan, () => undefined);
    expect(actual.tokens).toEqual(expected.tokens);
    expect(actual.ran.backend).toBe(winners.at(-1));
    engine.dispose();
  }
  expect(winners.length).toBe(winners[0] === 'onnx' ? 1 : 2);
});
