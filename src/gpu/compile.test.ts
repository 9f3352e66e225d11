import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openNullGpu } from './testing.ts';
import type { Gpu } from './gpu.ts';
import { createAdapterDown } from './kernels/adapter_down.ts';
import { createAdapterRoute } from './kernels/adapter_route.ts';
import { createAdapterUp } from './kernels/adapter_up.ts';
import { createAttention } from './kernels/attention.ts';
import { createAttentionCombine } from './kernels/attention_combine.ts';
import { createAttentionDecode } from './kernels/attention_decode.ts';
import { createEmbedQ8 } from './kernels/embed_q8.ts';
import { createKvWrite } from './kernels/kv_write.ts';
import { createMatmulQ4 } from './kernels/matmul_q4.ts';
import { createMatvecQ4, type AdapterRows } from './kernels/matvec_q4.ts';
import { createMatvecQ8 } from './kernels/matvec_q8.ts';
import { createRmsNorm } from './kernels/rms_norm.ts';
import { createRope } from './kernels/rope.ts';
import { createSamplePick } from './kernels/sample_pick.ts';
import { createSampleScores } from './kernels/sample_scores.ts';
import { createSubgroupProbe } from './kernels/subgroup_probe.ts';
import { createSwiglu } from './kernels/swiglu.ts';
import { matvecCuts } from './matvec-cuts.ts';
import { gpuTuning, softwareTuning } from './tuning.ts';

const matrix = { columns: 5120, rows: 13696, from: 64, outputs: 27392, add: true };
const adapter = { columns: 5120, linears: 2, experts: 4, rank: 8, padded: 32 };
const rows: AdapterRows = { padded: 32, from: 0, rows: 27392, starts: [13696, 27392], linears: 2 };
const fusion = { normEps: 1e-6, adapter: rows, silu: true };
const heads = { heads: 40, kvHeads: 8, headDim: 128, normEps: 1e-6 };

/** Every kernel, with sizes of a 13B model. */
const kernels: Record<string, (gpu: Gpu) => Promise<unknown>> = {
  adapter_down: async (gpu) => {
    await createAdapterDown(gpu, { ...adapter, routed: true });
    await createAdapterDown(gpu, { ...adapter, routed: false, weighed: true });
  },
  adapter_route: (gpu) => createAdapterRoute(gpu, { ...adapter, scale: 2 }),
  adapter_up: (gpu) => createAdapterUp(gpu, { ...rows, outputs: 27392 }),
  attention: async (gpu) => {
    await createAttention(gpu, { heads: 40, kvHeads: 40, headDim: 128 });
    await createAttention(gpu, { heads: 40, kvHeads: 40, headDim: 128, scales: 2 ** 22 });
  },
  attention_combine: (gpu) => createAttentionCombine(gpu, { ...heads, slices: 16 }),
  attention_decode: async (gpu) => {
    await createAttentionDecode(gpu, { ...heads, rotary: true, slices: 16 });
    await createAttentionDecode(gpu, { ...heads, normEps: null, rotary: false, slices: 1 });
    await createAttentionDecode(gpu, { ...heads, rotary: true, slices: 16, scales: 2 ** 22 });
  },
  embed_q8: (gpu) => createEmbedQ8(gpu, { width: 5120, rows: 25000, from: 100000 }),
  kv_write: async (gpu) => {
    await createKvWrite(gpu, { queries: 5120, width: 5120, headDim: 128 });
    await createKvWrite(gpu, { queries: 5120, width: 5120, headDim: 128, scales: 2 ** 22 });
  },
  matmul_q4: (gpu) => createMatmulQ4(gpu, matrix),
  matvec_q4: async (gpu) => {
    await createMatvecQ4(gpu, matrix);
    await createMatvecQ4(gpu, { ...matrix, rows: 27392, from: 0, add: false }, fusion);
    await createMatvecQ4(gpu, matrix, { adapter: rows, several: true });
  },
  subgroup_probe: (gpu) => createSubgroupProbe(gpu),
  matvec_q8: (gpu) => createMatvecQ8(gpu, matrix),
  rms_norm: (gpu) => createRmsNorm(gpu, { width: 5120, eps: 1e-6 }),
  rope: (gpu) => createRope(gpu, heads),
  sample_pick: (gpu) => createSamplePick(gpu, 151_936),
  sample_scores: (gpu) => createSampleScores(gpu, 151_936),
  swiglu: (gpu) => createSwiglu(gpu, 13696),
};

const files = readdirSync(new URL('../../shaders', import.meta.url))
  .filter((file) => file.endsWith('.wgsl'))
  .map((file) => file.slice(0, -'.wgsl'.length));

it('covers every shader', () => {
  expect(Object.keys(kernels).sort()).toEqual(files.sort());
});

const cuts = { 'for software': softwareTuning, 'for a GPU': gpuTuning };

describe.each(['f32', 'f16'] as const)('with the %s prelude', (variant) => {
  describe.each(Object.entries(cuts))('cut %s', async (_, tuning) => {
    const gpu = await openNullGpu({ variant, tuning });

    it.each(Object.entries(kernels))('%s compiles within default limits', async (_, create) => {
      await create(gpu);
      await gpu.idle(); // throws what validation reported outside of a scope
    });
  });

  describe.each(matvecCuts(gpuTuning.matvec, 64, true))('matvec_q4 as $title', async ({ cut }) => {
    const gpu = await openNullGpu({ variant, tuning: { ...gpuTuning, matvec: cut } });

    it('compiles within default limits', async () => {
      await createMatvecQ4(gpu, matrix);
      await createMatvecQ4(gpu, { ...matrix, rows: 27392, from: 0, add: false }, fusion);
      await gpu.idle();
    });
  });
});
