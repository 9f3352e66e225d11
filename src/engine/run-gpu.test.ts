import { readFile } from 'node:fs/promises';
import { describe, expect, it, vi } from 'vitest';
import type { PackageSource } from '../format/source.ts';
import { requestGpu } from '../gpu/device.ts';
import { gpuCases, testDriver } from '../gpu/testing.ts';
import type { GenerateEvent, SamplingSettings } from '../worker/api.ts';
import { Engine } from './engine.ts';

/** Whole answers: tokens chosen on the GPU against those that the CPU chooses from read logits. */

// Software drivers compile kernels for seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const greedy: SamplingSettings = {
  temperature: 0,
  topK: 0,
  topP: 1,
  repetitionPenalty: 1,
  maxTokens: 16,
};
const ways: Record<string, SamplingSettings> = {
  greedily: greedy,
  'with penalties': { ...greedy, repetitionPenalty: 1.2, presencePenalty: 0.3 },
  'by top k and top p': { ...greedy, temperature: 0.8, topK: 20, topP: 0.9 },
  'from all tokens': { ...greedy, temperature: 1.1, minP: 0.01 },
};
const creating = [
  'createBuffer',
  'createBindGroup',
  'createBindGroupLayout',
  'createPipelineLayout',
  'createComputePipeline',
  'createComputePipelineAsync',
  'createShaderModule',
  'createQuerySet',
] as const;

async function openEngine(name: string, gpu: Awaited<ReturnType<typeof requestGpu>>) {
  const folder = new URL(`../../e2e/fixtures/${name}/`, import.meta.url);
  const source: PackageSource = { read: (file) => readFile(new URL(file, folder)) };
  return Engine.open(source, gpu, { selfTest: false });
}
const request = (task: string, sampling: SamplingSettings, seed = 11) => ({
  task,
  turns: [{ role: 'user' as const, text: '宝宝发烧两天，还咳嗽。' }],
  sampling,
  seed,
});

describe.each(gpuCases)('an answer in $title', ({ variant, tuning }) => {
  it('is the same from both', async () => {
    const gpu = await requestGpu(testDriver(variant), {
      variant,
      tuning: { ...tuning, matmulFrom: Infinity },
    });
    const engine = await openEngine('tiny', gpu);
    const texts = new Set<string>();
    for (const [way, sampling] of Object.entries(ways)) {
      const plan = request('evidiag', sampling);
      const actual = await engine.generate(plan, () => undefined);
      // Log-probabilities need logits: the CPU samples.
      const expected = await engine.generate({ ...plan, logprobs: 0 }, () => undefined);
      expect(actual.tokens, way).toEqual(expected.tokens);
      expect(actual.finish, way).toEqual(expected.finish);
      texts.add(actual.text);
    }
    expect(texts.size).toBeGreaterThan(2);
    engine.dispose();
  });
});

describe('between the second token and the last', () => {
  it('nothing is created on the device, and another answer works the same', async () => {
    const setting = gpuCases[0];
    if (setting === undefined) throw new Error('no way to run kernels');
    const gpu = await requestGpu(testDriver(setting.variant), setting);
    const engine = await openEngine('tiny', gpu);
    const spies = creating.map((name) => vi.spyOn(gpu.device, name));
    const made = (): number[] => spies.map((spy) => spy.mock.calls.length);
    for (const sampling of [greedy, { ...greedy, temperature: 0.9, topK: 5 }]) {
      const counted: number[][] = [];
      const onEvent = (event: GenerateEvent): void => {
        if (event.kind === 'piece') counted.push(made());
      };
      const { outputTokens } = await engine.generate(request('evidiag', sampling), onEvent);
      expect(outputTokens).toBeGreaterThan(4);
      expect(counted.length).toBeGreaterThan(3);
      expect(counted.at(-1)).toEqual(counted[1]);
    }
    // Nor at any other time of an answer.
    expect(made()).toEqual(creating.map(() => 0));
    engine.dispose();
  });
});
