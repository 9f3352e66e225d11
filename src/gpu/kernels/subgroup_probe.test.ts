import { describe, expect, it } from 'vitest';
import { gpuCases, openTestGpu, runSteps, upload } from '../testing.ts';
import { createSubgroupProbe, PROBE_LANES, probeNumbers, subgroupOf } from './subgroup_probe.ts';

const x = probeNumbers();

/** What a GPU with subgroups of this size writes. */
function written(size: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(PROBE_LANES * 4);
  const sums = new Float32Array(words.buffer);
  for (let lane = 0; lane < PROBE_LANES; lane++) {
    const first = lane - (lane % size);
    words.set([size, lane % size], lane * 4);
    sums[lane * 4 + 2] = x.subarray(first, first + size).reduce((all, one) => all + one, 0);
  }
  return words;
}

describe.each(gpuCases)('subgroup_probe in $title', (setting) => {
  it('measures subgroups within what the adapter says of them', async () => {
    const gpu = await openTestGpu(setting);
    expect(gpu.device.features.has('subgroups')).toBe(true); // both software drivers have them
    const y = gpu.storage('probe', PROBE_LANES * 16);
    const bind = await createSubgroupProbe(gpu);
    const read = await runSteps(gpu, [bind({ x: upload(gpu, x), y })], 1, y, PROBE_LANES * 4);
    const size = subgroupOf(new Uint32Array(read.buffer), x);
    const { subgroupMinSize = 0, subgroupMaxSize = 0 } = gpu.device.adapterInfo;
    expect(size).toBeGreaterThan(1);
    expect(size).toBeGreaterThanOrEqual(subgroupMinSize);
    expect(size).toBeLessThanOrEqual(subgroupMaxSize);
  });
});

describe('what the probe wrote', () => {
  it.each([1, 4, 8, 16, 32, 64])('is believed of subgroups of %i', (size) => {
    expect(subgroupOf(written(size), x)).toBe(size);
  });

  it('counts as many lanes as the workgroup has, in larger subgroups', () => {
    const words = written(64);
    for (let lane = 0; lane < PROBE_LANES; lane++) words[lane * 4] = 128;
    expect(subgroupOf(words, x)).toBe(64);
  });

  it.each<[string, (words: Uint32Array<ArrayBuffer>) => void]>([
    [
      'lanes are in another order',
      (words) =>
        words.set(
          [1, 0].map((n) => n),
          1,
        ),
    ],
    ['sizes differ', (words) => words.set([16], 5 * 4)],
    ['a sum is wrong', (words) => new Float32Array(words.buffer).set([7], 63 * 4 + 2)],
    ['nothing was written', (words) => words.fill(0)],
    ['a size is no power of two', (words) => words.forEach((_, i) => i % 4 || (words[i] = 12))],
  ])('is not believed where %s', (_, change) => {
    const words = written(8);
    change(words);
    expect(subgroupOf(words, x)).toBe(1);
  });
});
