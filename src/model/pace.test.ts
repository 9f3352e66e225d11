import { describe, expect, it, vi } from 'vitest';
import { softwareTuning } from '../gpu/tuning.ts';
import { Model } from './model.ts';
import { Pace, SUBMIT_MS } from './pace.ts';
import { openDevice, testPackage } from './testing.ts';

describe('the pace of submits', () => {
  it('starts with a layer each', () => {
    expect(new Pace(16).layers).toBe(1);
  });

  it('gives a submit as many layers as fit into its time', () => {
    const pace = new Pace(16);
    pace.took(8 * 10, 16, 8);
    expect(pace.layers).toBe(SUBMIT_MS / 10);
    pace.took(8 * 2 * SUBMIT_MS, 16, 8);
    expect(pace.layers).toBe(1);
  });

  it('takes a short pass for a part of a whole one', () => {
    const pace = new Pace(64);
    pace.took(40 * 5, 16, 40); // 64 tokens may take four times as long
    expect(pace.layers).toBe(5);
  });

  it('is not confused by a clock that stood still', () => {
    const pace = new Pace(16);
    pace.took(0, 16, 8);
    expect(pace.layers).toBeGreaterThan(1000);
  });
});

it('a prompt is prefilled in submits of a layer each, then of as many as fit', async () => {
  const test = testPackage({});
  const { manifest } = test;
  const gpu = await openDevice({ variant: 'f32', tuning: { ...softwareTuning, chunk: 4 } });
  const model = await Model.load(gpu, manifest, (file) => test.read(file));
  const { layers } = manifest.config;
  const submit = vi.spyOn(gpu.device.queue, 'submit');
  let now = 0;
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now);
  submit.mockClear();
  await model.prefill([5, 6, 7, 8]);
  expect(submit).toHaveBeenCalledTimes(layers + 1); // and one that fetches the tokens' rows
  submit.mockClear();
  await model.prefill([9, 10, 11, 12]); // the pass before took no time
  expect(submit).toHaveBeenCalledTimes(1);
  clock.mockImplementation(() => (now += 2 * layers * SUBMIT_MS));
  await model.prefill([5, 6, 7, 8]);
  submit.mockClear();
  await model.prefill([9, 10, 11, 12]);
  expect(submit).toHaveBeenCalledTimes(layers + 1);
  submit.mockClear();
  await model.decode(5);
  expect(submit).toHaveBeenCalledTimes(1);
  clock.mockRestore();
  model.dispose();
});
