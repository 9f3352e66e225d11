import { beforeEach, describe, expect, it, test, vi } from 'vitest';
import { Failure } from '../../failure.ts';
import type {
  InstallResult,
  LoadProgress,
  ModelEntry,
  ModelsApi,
  StorageReport,
} from '../../worker/api.ts';
import { Loader } from '../loader.svelte.ts';
import { chosenModel, modelFolder } from '../model-folder.ts';
import { FakeEngine } from '../testing/fake-engine.ts';
import { FakeStorage } from '../testing/fake-storage.ts';
import { bytesText, timeOf } from './amounts.ts';
import { Models } from './models.svelte.ts';
import { sourceOf } from './pick.ts';
import { Rate } from './rate.ts';

const page = 'http://clinic.test/app/';
const step = (bytesDone: number): LoadProgress => ({
  phase: 'download',
  bytesDone,
  bytesTotal: 1000,
  file: 'a.bin',
  network: true,
});
const entry = (state: ModelEntry['state'], key = 'a@1'): ModelEntry => ({
  key,
  id: 'a',
  name: { zh: '甲', en: 'A' },
  licence: 'MIT',
  parameters: 1,
  capacity: 64,
  state,
  paused: false,
  bytes: 1000,
  usedBytes: 10,
  memoryBytes: 2000,
  runs: 'wgsl',
  cpu: true,
  source: { kind: 'url', from: `${page}models/a/` },
});

/** Packages that a test puts there, and an install that ends when it says so. */
class FakeModels implements ModelsApi {
  entries: ModelEntry[] = [];
  removed: string[] = [];
  tell: (progress: LoadProgress) => void = () => undefined;
  end: (result: InstallResult) => void = () => undefined;
  fail: (error: Error) => void = () => undefined;
  pauses = 0;

  list = (): Promise<ModelEntry[]> => Promise.resolve(this.entries);
  install = (_: unknown, tell: FakeModels['tell']): Promise<InstallResult> => {
    this.tell = tell;
    return new Promise((resolve, reject) => {
      this.end = resolve;
      this.fail = reject;
    });
  };
  resume = this.install;
  pause = (): Promise<void> => {
    this.pauses += 1;
    this.end({ key: 'a@1', state: 'paused' });
    return Promise.resolve();
  };
  remove = (key: string): Promise<void> => {
    this.removed.push(key);
    return Promise.resolve();
  };
  exportTo = (): Promise<string> => Promise.resolve('a-1');
  storage = (): Promise<StorageReport> =>
    Promise.resolve({ usedBytes: 10, persisted: false, estimate: null });
  check = () =>
    Promise.resolve({
      adapter: 'fake',
      milliseconds: 1,
      difference: 0,
      tolerance: 1,
      memory: null,
    });
}

let api: FakeModels;
let engine: FakeEngine;
let loader: Loader;
let clock: number;
let models: Models;

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
  api = new FakeModels();
  engine = new FakeEngine();
  loader = new Loader(engine, () => modelFolder(page));
  clock = 0;
  const storage = { persist: () => Promise.resolve(false) };
  models = new Models({ api, loader, page, storage, now: () => clock });
});

describe('an install', () => {
  it('shows bytes, speed and the time left, and looks again at its end', async () => {
    const done = models.install({ kind: 'url', url: `${page}models/a/` });
    api.tell(step(100));
    expect(models.work).toMatchObject({ bytesPerSecond: null, secondsLeft: null });
    clock = 2000;
    api.tell(step(500));
    expect(models.work).toMatchObject({ bytesPerSecond: 200, secondsLeft: 2.5 });
    api.entries = [entry('ready')];
    api.end({ key: 'a@1', state: 'ready' });
    expect(await done).toBe(true);
    expect(models.work).toBeNull();
    expect(models.entries).toEqual([entry('ready')]);
  });

  it('that is paused keeps what is here; one that is discarded does not', async () => {
    const paused = models.install({ kind: 'url', url: page });
    await models.pause();
    expect(await paused).toBe(false);
    expect(api.removed).toEqual([]);
    const discarded = models.resume(entry('partial'));
    await models.discard();
    await discarded;
    expect(api.removed).toEqual(['a@1']);
    const next = models.install({ kind: 'url', url: page });
    await models.pause();
    await next;
    expect(api.removed).toEqual(['a@1']);
  });

  it('that fails says why, and the next one begins without it', async () => {
    const failing = models.install({ kind: 'url', url: page });
    api.fail(new Failure('StorageFull', 'no room'));
    await failing;
    expect(models.trouble?.name).toBe('StorageFull');
    const next = models.install({ kind: 'url', url: page });
    expect(models.trouble).toBeNull();
    api.end({ key: 'a@1', state: 'ready' });
    await next;
  });
});

it('uses another model from now on, also after a reload', async () => {
  await loader.start();
  await models.use(entry('ready', 'b@2'));
  expect(engine.opened.at(-1)).toBe('installed:b@2');
  expect(models.isUsed(entry('ready', 'b@2'))).toBe(true);
  expect(modelFolder(page)).toBe('installed:b@2');
  expect(modelFolder(`${page}?model=tiny`)).toBe(`${page}models/tiny/`);
});

it('unloads the model that is removed while it is used, and only that one', async () => {
  await loader.start();
  await models.use(entry('ready', 'b@2'));
  await models.remove(entry('ready', 'c@3'));
  expect(loader.phase).toBe('ready');
  await models.remove(entry('ready', 'b@2'));
  expect(loader.trouble?.name).toBe('NoModel');
  expect(chosenModel()).toBeNull();
});

it('says that the browser did not promise to keep anything', async () => {
  await models.persist();
  expect(models.refused).toBe(true);
  expect(models.storage?.persisted).toBe(false);
});

test.each([
  ['models/mine', `${page}models/mine/`],
  ['models/mine/manifest.json', `${page}models/mine/`],
  [' /models/mine/?x=1#y ', 'http://clinic.test/models/mine/'],
  ['https://elsewhere.test/m/', 'https://elsewhere.test/m/'],
])('the address %j is %s', (typed, url) => {
  expect(sourceOf(typed, page)).toEqual({ kind: 'url', url });
});

test.each(['', '  ', 'javascript:alert(1)', 'data:x', 'http://'])('%j is no address', (typed) => {
  expect(sourceOf(typed, page)).toBeNull();
});

test('amounts are words of three digits', () => {
  expect([0, 999, 1000, 13_300_000, 999_960, 4_830_000_000].map(bytesText)).toEqual([
    '0 B',
    '999 B',
    '1.0 kB',
    '13.3 MB',
    '1.0 MB',
    '4.8 GB',
  ]);
  expect([0.2, 89, 100, 6000].map((seconds) => timeOf(seconds))).toEqual([
    { unit: 'seconds', n: 1 },
    { unit: 'seconds', n: 89 },
    { unit: 'minutes', n: 2 },
    { unit: 'hours', n: 1.7 },
  ]);
});

test('a speed is that of the last seconds, and unknown where a file begins anew', () => {
  const rate = new Rate();
  for (let second = 0; second <= 20; second += 1) rate.see(second * 100, second * 1000);
  for (let second = 21; second <= 30; second += 1)
    rate.see(2000 + (second - 20) * 500, second * 1000);
  expect(rate.bytesPerSecond).toBe(500);
  rate.see(10, 31_000);
  expect(rate.bytesPerSecond).toBeNull();
});
