import { readFile } from 'node:fs/promises';
import { describe, expect, it, vi } from 'vitest';
import type { PackageSource } from '../format/source.ts';
import { JsonCalibrations } from '../gpu/calibration-store.ts';
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

it('passes with the kernels that were measured to be the fastest, which are kept', async () => {
  const folder = new URL('../../e2e/fixtures/tiny/', import.meta.url);
  const source: PackageSource = { read: (file) => readFile(new URL(file, folder)) };
  const gpu = await requestGpu(testDriver('f32'), { variant: 'f32' });
  let kept: string | null = null;
  const measurements = new JsonCalibrations(
    () => Promise.resolve(kept),
    (text) => Promise.resolve(void (kept = text)),
  );
  const engine = await Engine.open(source, gpu, { measurements });
  const { selfTest } = engine.info;
  engine.dispose();
  expect(selfTest?.maxLogitDifference).toBeLessThan(selfTest?.tolerance ?? 0);
  const [[key, { times }] = ['', { times: {} }]] = Object.entries(
    JSON.parse(kept ?? '{}') as Record<string, { times: Record<string, number> }>,
  );
  expect(key).toContain('320 x 64'); // gate and up of the tiny model
  expect(Object.values(times)[0]).toBeGreaterThan(0);
});
