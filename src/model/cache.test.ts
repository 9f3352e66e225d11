import { describe, expect, it, vi } from 'vitest';
import { requestGpu } from '../gpu/device.ts';
import { gpuCases, testDriver } from '../gpu/testing.ts';
import { Model } from './model.ts';
import { referenceForward } from './reference.ts';
import { difference, testPackage, testTokens as tokens, tinyConfig } from './testing.ts';

/** A model whose KV cache has 8 bits. */

// Software drivers compile kernels for seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

/**
 * Rounding to 1/254 of the largest of 16 values, in every key and value: a part of the largest
 * logit. Measured: 0.4 %; a cache that is read wrong is off by tens of percent.
 */
const TOLERANCE = 0.02;

describe.each(gpuCases)('a cache of 8 bits in $title', ({ variant, tuning }) => {
  it.each([
    ['rotary, heads of their own', {}],
    ['rotary, shared heads, norms and biases', { kvHeads: 2, qkNorm: true, qkvBias: true }],
    ['linear biases', { positions: { kind: 'alibi' } as const }],
  ])('gives nearly the same logits by chunks and by steps: %s', async (_, config) => {
    if (variant === 'f16' && Object.keys(config).length !== 3) return; // lavapipe compiles for long
    const pkg = testPackage({ config });
    const chunked = { ...tuning, chunk: 5, matmulFrom: Math.min(tuning.matmulFrom, 5) };
    const gpu = await requestGpu(testDriver(variant), { variant, tuning: chunked, cache: 'int8' });
    const model = await Model.load(gpu, pkg.manifest, (file) => pkg.read(file));
    const { logits } = referenceForward(pkg, tokens, { task: 'medkqa' });
    expect(difference(await model.prefill(tokens), logits.at(-1) ?? [])).toBeLessThan(TOLERANCE);
    model.truncate(0);
    for (const [t, token] of tokens.entries()) {
      expect(difference(await model.decode(token), logits[t] ?? [])).toBeLessThan(TOLERANCE);
    }
    model.dispose();
  });
});

it('takes the memory of the keys and values down to bytes and their scales', async () => {
  const [setting] = gpuCases;
  if (setting === undefined) throw new Error('no adapter');
  const { variant, tuning } = setting;
  const pkg = testPackage();
  const bytes: number[] = [];
  for (const cache of ['elem', 'int8'] as const) {
    const gpu = await requestGpu(testDriver(variant), { variant, tuning, cache });
    const create = vi.spyOn(gpu.device, 'createBuffer');
    const model = await Model.load(gpu, pkg.manifest, (file) => pkg.read(file));
    const caches = create.mock.calls.filter(([{ label }]) => /^(keys|values) \d/.test(label ?? ''));
    expect(caches.length).toBe(2 * tinyConfig.layers);
    bytes.push(caches.reduce((sum, [{ size }]) => sum + size, 0));
    model.dispose();
  }
  const { layers, capacity, kvHeads, headDim } = tinyConfig;
  const heads = 2 * layers * capacity * kvHeads;
  expect(bytes).toEqual([heads * headDim * 4, heads * (headDim + 4)]);
});
