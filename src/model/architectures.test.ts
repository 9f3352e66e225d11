import { describe, expect, it, vi } from 'vitest';
import type { ModelConfig } from '../format/manifest.ts';
import { gpuTuning, softwareTuning } from '../gpu/tuning.ts';
import { Model } from './model.ts';
import { referenceForward } from './reference.ts';
import {
  difference,
  openDevice,
  testPackage,
  testTokens as tokens,
  tinyConfig,
  tolerance,
} from './testing.ts';

// Software drivers compile kernels for seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const mlp = ['gate_proj', 'up_proj', 'down_proj'];
const apart = ['q_proj', 'k_proj', 'v_proj', 'o_proj', ...mlp];

/** What PediatricsGPT may stand on, and what no published model combines but the format allows. */
const architectures: [string, Partial<ModelConfig>, string[]][] = [
  ['ALiBi', { positions: { kind: 'alibi' }, width: 96, heads: 6, kvHeads: 6 }, ['W_pack', ...mlp]],
  [
    'ALiBi, heads share keys',
    { positions: { kind: 'alibi' }, width: 96, heads: 6, kvHeads: 2 },
    apart,
  ],
  ['llama', { architecture: 'llama', kvHeads: 2, tiedHead: true }, apart],
  ['qwen2', { architecture: 'qwen2', kvHeads: 1, qkvBias: true }, apart],
  ['qwen3', { architecture: 'qwen3', kvHeads: 2, headDim: 32, qkNorm: true }, ['v_proj', ...mlp]],
  ['bias, norm and one table', { qkvBias: true, qkNorm: true, tiedHead: true }, apart],
];

const cuts = {
  software: { ...softwareTuning, chunk: 8 },
  'a GPU': { ...gpuTuning, chunk: 8, matmulFrom: Infinity },
};

describe.each(architectures)('a model with %s', (_, config, targets) => {
  const pkg = testPackage({ config, targets });
  const { logits, hidden } = referenceForward(pkg, tokens, { task: 'trerecom' });

  it.each(Object.entries(cuts))('agrees with plain loops, cut for %s', async (_, tuning) => {
    const device = await openDevice({ variant: 'f32', tuning });
    const model = await Model.load(device, pkg.manifest, (file) => pkg.read(file));
    model.setTask('trerecom');
    const trace = await model.trace(tokens);
    hidden.forEach((expected, layer) => {
      const actual = trace.hidden[layer] ?? [];
      expect(
        difference(
          actual,
          expected.flatMap((x) => [...x]),
        ),
      ).toBeLessThan(tolerance.f32);
    });
    const expected = logits.flatMap((x) => [...x]);
    expect(difference(trace.logits, expected)).toBeLessThan(tolerance.f32);
    // Chunks of 8 and single steps fill the cache alike.
    const last = logits.at(-1) ?? [];
    expect(difference(await model.prefill(tokens), last)).toBeLessThan(tolerance.f32);
    model.truncate(0);
    for (const [t, token] of tokens.entries()) {
      const stepped = await model.decode(token);
      expect(difference(stepped, logits[t] ?? [])).toBeLessThan(tolerance.f32);
    }
    model.dispose();
  });

  it('differs from the same weights without it', () => {
    const { positions, qkvBias, qkNorm, tiedHead } = pkg.manifest.config;
    const without: Partial<ModelConfig>[] = [
      ...(positions.kind === 'alibi' ? [{ positions: tinyConfig.positions }] : []),
      ...(qkvBias ? [{ qkvBias: false }] : []),
      ...(qkNorm ? [{ qkNorm: false }] : []),
      ...(tiedHead ? [{ tiedHead: false }] : []),
    ];
    for (const change of without) {
      const other = testPackage({ config: { ...config, ...change }, targets });
      // The tensors that both have are the same; values come from names and order.
      const same = new Map(
        [...other.values].map(([name, own]) => [name, pkg.values.get(name) ?? own]),
      );
      const result = referenceForward({ ...other, values: same }, tokens, { task: 'trerecom' });
      expect(difference(result.logits.at(-1) ?? [], logits.at(-1) ?? [])).toBeGreaterThan(
        100 * tolerance.f32,
      );
    }
  });
});
