import { describe, expect, it } from 'vitest';
import type { ModelConfig } from '../format/manifest.ts';
import { openNullGpu } from '../gpu/testing.ts';
import { gpuTuning, softwareTuning, type Tuning } from '../gpu/tuning.ts';
import { planAdapter } from './adapter.ts';
import { sizesOf } from './config.ts';
import { createForward } from './forward.ts';
import { createState } from './state.ts';
import { testPackage, type TestPackageOptions } from './testing.ts';
import { Uploads } from './uploads.ts';
import { planWeights } from './weights.ts';

/** How many dispatches a token costs: on a GPU each has a price of its own. */

/** Names of the kernels of every layer of a pass of so many tokens. */
async function kernelsOf(options: TestPackageOptions, tuning: Tuning, tokens = 1) {
  const { manifest } = testPackage(options);
  const gpu = await openNullGpu({ variant: 'f32', tuning });
  const uploads = new Uploads(); // never run: the numbers do not matter here
  const sizes = sizesOf(manifest.config);
  const weights = planWeights(gpu, manifest, uploads);
  const adapter = planAdapter(gpu, manifest, uploads);
  const state = createState(gpu, sizes, adapter);
  const forward = await createForward({ gpu, sizes, weights, adapter, state });
  const kernels = forward.layers(tokens, false).map((steps) => steps.map(({ kernel }) => kernel));
  gpu.dispose();
  expect(kernels.length).toBe(sizes.layers);
  return kernels;
}

const attention = ['attention_decode', 'attention_combine'];
const all = ['W_pack', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
const apart = ['q_proj', 'k_proj', 'v_proj', ...all.slice(1)];
const cuts = { software: softwareTuning, 'a GPU': gpuTuning };

describe.each(Object.entries(cuts))('a token in one layer, cut for %s', (_, tuning) => {
  const attend = tuning.attentionSlices > 1 ? attention : attention.slice(0, 1);
  const matrix = ['matvec_q4'];
  const adapted = ['adapter_down', 'matvec_q4'];

  it('takes six dispatches at most without an adapter', async () => {
    for (const layer of await kernelsOf({ mode: 'none' }, tuning)) {
      expect(layer).toEqual([...matrix, ...attend, ...matrix, ...matrix, ...matrix]);
      expect(layer.length).toBeLessThanOrEqual(6);
    }
  });

  it('takes eight at most with the adapter on gate, up and down', async () => {
    for (const layer of await kernelsOf({}, tuning)) {
      expect(layer).toEqual([...matrix, ...attend, ...matrix, ...adapted, ...adapted]);
      expect(layer.length).toBeLessThanOrEqual(8);
    }
  });

  it.each<[string, readonly string[], Partial<ModelConfig>]>([
    ['queries, keys and values in one', all, {}],
    [
      'them apart, heads that share keys, biases and norms',
      apart,
      { kvHeads: 2, qkvBias: true, qkNorm: true },
    ],
    ['linear biases', all, { positions: { kind: 'alibi' } }],
  ])('takes ten at most with the adapter everywhere, %s', async (_, targets, config) => {
    for (const layer of await kernelsOf({ targets, config }, tuning)) {
      expect(layer).toEqual([...adapted, ...attend, ...adapted, ...adapted, ...adapted]);
      expect(layer.length).toBeLessThanOrEqual(10);
    }
  });
});

it('a pass of many tokens uses tiles, and kernels of its own around them', async () => {
  const [layer = []] = await kernelsOf({}, { ...gpuTuning, matmulFrom: 4 }, 4);
  expect(layer.filter((kernel) => kernel === 'matmul_q4').length).toBe(4);
  expect(layer).not.toContain('matvec_q4');
});
