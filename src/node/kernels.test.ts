import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { requestGpu, type GpuDevice } from '../gpu/device.ts';
import { testDriver } from '../gpu/testing.ts';
import { softwareTuning } from '../gpu/tuning.ts';
import { tinyConfig } from '../model/testing.ts';
import { calibrateOnDisk, kernelsFile } from './kernels.ts';

vi.setConfig({ testTimeout: 240_000 });

let folder: string;
let gpu: GpuDevice;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kernels-'));
  gpu = await requestGpu(testDriver('f32'), { variant: 'f32', tuning: softwareTuning });
});
afterAll(() => rm(folder, { recursive: true }));

it('keeps the file where the system keeps caches', () => {
  expect(kernelsFile({ XDG_CACHE_HOME: '/c' })).toBe('/c/pediatricsgpt-web/kernels.json');
  expect(kernelsFile({})).toMatch(/\.cache\/pediatricsgpt-web\/kernels\.json$/);
});

it('remembers what it measured, in a folder that it makes', async () => {
  const file = join(folder, 'a', 'b', 'kernels.json');
  const note = vi.fn();
  let visit = await calibrateOnDisk(gpu, tinyConfig, { note, file });
  for (let i = 0; i < 20 && visit.left.length > 0; i++) {
    visit = await calibrateOnDisk(gpu, tinyConfig, { note, file });
  }
  expect(visit.left).toEqual([]);
  const text = await readFile(file, 'utf8');
  expect(text).toContain(visit.chosen.title);
  const again = await calibrateOnDisk(gpu, tinyConfig, { note, file });
  expect(again.times).toEqual(visit.times);
  expect(await readFile(file, 'utf8')).toBe(text);
  expect(note).not.toHaveBeenCalled();
});

it('says that a file cannot be written, and goes on', async () => {
  const blocked = join(folder, 'blocked');
  await writeFile(blocked, 'a file where a folder should be');
  const note = vi.fn();
  const read = calibrateOnDisk(gpu, tinyConfig, { note, file: join(blocked, 'kernels.json') });
  await expect(read).rejects.toThrow(/ENOTDIR/); // it is there, and cannot be read
  const file = join(folder, 'kernels.json');
  await mkdir(`${file}.${process.pid}.part`);
  const { chosen } = await calibrateOnDisk(gpu, tinyConfig, { note, file });
  expect(chosen.title).not.toBe('');
  expect(note).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('EISDIR'));
});
