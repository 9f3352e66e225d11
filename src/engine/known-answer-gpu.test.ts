import { readFile } from 'node:fs/promises';
import { describe, expect, it, vi } from 'vitest';
import type { PackageSource } from '../format/source.ts';
import { requestGpu } from '../gpu/device.ts';
import { gpuCases, testDriver } from '../gpu/testing.ts';
import { Engine } from './engine.ts';

/** What every load does, on every way of running the kernels. */

vi.setConfig({ testTimeout: 240_000 });

describe.each(gpuCases)('the known-answer test in $title', ({ variant, tuning }) => {
  it.each(['tiny', 'tiny-routed'])('passes on %s', async (name) => {
    const folder = new URL(`../../e2e/fixtures/${name}/`, import.meta.url);
    const source: PackageSource = { read: (file) => readFile(new URL(file, folder)) };
    const gpu = await requestGpu(testDriver(variant), { variant, tuning });
    const engine = await Engine.open(source, gpu);
    const { selfTest, variant: used } = engine.info;
    engine.dispose();
    expect(used).toBe(variant);
    expect(selfTest?.maxLogitDifference).toBeLessThan(selfTest?.tolerance ?? 0);
  });
});
