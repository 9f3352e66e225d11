import { beforeEach, expect, test, vi } from 'vitest';
import { Failure } from '../failure.ts';
import type { BackendChoice } from '../worker/api.ts';
import { Loader } from './loader.svelte.ts';
import { modelFolder } from './model-folder.ts';
import { FakeLocks, marks } from './testing/fake-locks.ts';
import { FakeEngine, type Script } from './testing/fake-engine.ts';
import { FakeStorage } from './testing/fake-storage.ts';

const folder = 'http://localhost/models/nano/';
const now = (run: () => void): void => run();

let locks: FakeLocks;

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
  locks = new FakeLocks();
  vi.stubGlobal('navigator', { locks });
});

/** What a page leaves behind that dies. */
function died(mark: string): void {
  localStorage.setItem('pediatricsgpt.risk.dead', mark);
}

function setUp(script: Script = {}, backend: BackendChoice = 'auto') {
  const engine = new FakeEngine(script);
  return {
    engine,
    loader: new Loader(
      engine,
      () => folder,
      () => backend,
      now,
    ),
  };
}

test('a model is loaded from its folder, with progress on the way', async () => {
  const step = {
    phase: 'download',
    bytesDone: 5,
    bytesTotal: 10,
    file: 'a.bin',
    network: true,
  } as const;
  const { engine, loader } = setUp({ progress: [step] });
  await loader.start();
  expect(engine.opened).toEqual([folder]);
  expect(loader.progress).toEqual(step);
  expect(loader.phase).toBe('ready');
  expect(loader.info?.id).toBe('fake');
});

test('a wish for the GPU opens nothing without an adapter, and the failure says so', async () => {
  const { engine, loader } = setUp({ device: { webgpu: false } }, 'webgpu');
  await loader.start();
  expect(loader.phase).toBe('failed');
  expect(loader.trouble?.name).toBe('NoWebGpu');
  expect(engine.opened).toEqual([]);
});

test('a failed load can be tried again', async () => {
  const { loader } = setUp({ openFailures: [new Failure('ShardTruncated', 'short')] });
  await loader.start();
  expect(loader.trouble?.name).toBe('ShardTruncated');
  await loader.start();
  expect(loader.phase).toBe('ready');
  expect(loader.trouble).toBeNull();
});

test('what crossed the worker border keeps its name', async () => {
  const crossed = Object.assign(new Error('html'), { name: 'NotAShard' });
  const { loader } = setUp({ openFailures: [crossed] });
  await loader.start();
  expect(loader.trouble?.name).toBe('NotAShard');
});

test('a GPU that goes away later is said', async () => {
  const { engine, loader } = setUp();
  await loader.start();
  engine.lose('unplugged');
  await vi.waitUntil(() => loader.phase === 'failed');
  expect(loader.trouble?.name).toBe('DeviceLost');
});

test.each([
  ['http://localhost:4820/', 'http://localhost:4820/models/nano/'],
  ['http://localhost:4820/?model=tiny-routed', 'http://localhost:4820/models/tiny-routed/'],
  ['https://a.org/app/index.html?x=1#y', 'https://a.org/app/models/nano/'],
])('the page %s has its model at %s', (page, expected) => {
  expect(modelFolder(page)).toBe(expected);
});

test.each(['../x', 'a/b', 'A', '%2e%2e', ''])('a model cannot be called %j', (name) => {
  expect(() => modelFolder(`http://localhost/?model=${name}`)).toThrow(Failure);
});

test('a page that died while loading is careful the next time, and the usual way is a click away', async () => {
  died('load usual');
  const { engine, loader } = setUp();
  await loader.start();
  expect([loader.carefulSince, loader.care]).toEqual(['load', 'careful']);
  expect(engine.careful).toEqual([true]);
  expect(marks()).toEqual([]);
  await loader.startUsual();
  expect(loader.phase).toBe('ready');
  expect([loader.carefulSince, loader.care]).toEqual([null, 'usual']);
  expect(engine.careful).toEqual([true, false]);
  await loader.startUsual();
  expect(engine.opened).toHaveLength(2);
});

test('a page that died in the careful way is run on the CPU the next time', async () => {
  died('answer careful');
  const { engine, loader } = setUp({}, 'webgpu');
  await loader.start();
  expect([loader.phase, loader.care, loader.carefulSince]).toEqual(['ready', 'cpu', 'answer']);
  expect(engine.backends).toEqual(['cpu']);
  // What the person chooses counts, and is run with care.
  await loader.restart();
  expect([loader.care, engine.backends.at(-1), engine.careful.at(-1)]).toEqual([
    'careful',
    'webgpu',
    true,
  ]);
  await loader.startUsual();
  expect([engine.backends.at(-1), engine.careful.at(-1)]).toEqual(['webgpu', false]);
});

test('a package that the CPU cannot run leaves the usual way open', async () => {
  died('load careful');
  const { engine, loader } = setUp({ openFailures: [new Failure('CpuLimit', 'large')] });
  await loader.start();
  expect(loader.trouble?.name).toBe('CpuLimit');
  await loader.startUsual();
  expect([loader.phase, engine.backends.at(-1)]).toEqual(['ready', 'auto']);
});

test('a page that died on the CPU too loads nothing before the person asks', async () => {
  died('load cpu');
  const { engine, loader } = setUp();
  await loader.start();
  expect([loader.phase, loader.trouble?.name]).toEqual(['failed', 'WorkerLost']);
  expect(engine.opened).toEqual([]);
  expect([loader.care, loader.carefulSince]).toEqual(['cpu', 'load']);
  await loader.start();
  expect([loader.phase, engine.backends]).toEqual(['ready', ['cpu']]);
});

test('the mark of a window that lives says nothing, and stays', async () => {
  died('answer usual');
  locks.hold('pediatricsgpt-risk.dead');
  const { engine, loader } = setUp();
  await loader.start();
  expect([loader.care, engine.careful]).toEqual(['usual', [false]]);
  expect(marks()).toEqual(['answer usual']);
});

test('a load that ends, well or badly, leaves no mark; one under way does', async () => {
  let midway: string[] = [];
  const pause = (): Promise<void> => {
    midway = marks();
    return Promise.resolve();
  };
  const step = {
    phase: 'upload',
    bytesDone: 1,
    bytesTotal: 2,
    file: null,
    network: false,
  } as const;
  const failing = setUp({
    progress: [step],
    pause,
    openFailures: [new Failure('ShardTruncated', 'short')],
  });
  await failing.loader.start();
  expect(midway).toEqual(['load usual']);
  expect(marks()).toEqual([]);
  await failing.loader.start();
  expect(failing.loader.phase).toBe('ready');
  expect(failing.engine.careful).toEqual([false, false]);
  expect(marks()).toEqual([]);
});

test('without an adapter the CPU is left to choose, and what was asked is handed on', async () => {
  const { engine, loader } = setUp({ device: { webgpu: false } });
  await loader.start();
  expect(loader.phase).toBe('ready');
  expect(engine.backends).toEqual(['auto']);
  const asked = setUp({}, 'cpu');
  await asked.loader.start();
  await asked.loader.restart();
  expect(asked.engine.backends).toEqual(['cpu', 'cpu']);
});

test('another edition in the place of the chosen package is told of, and is the choice from then on', async () => {
  const { loader } = setUp({ info: { insteadKey: 'nano@1111111111111111' } });
  await loader.use('installed:nano@0000000000000000');
  expect(loader.isOtherEdition).toBe(true);
  expect(loader.address).toBe('installed:nano@1111111111111111');
  expect(modelFolder('http://localhost/')).toBe('installed:nano@1111111111111111');
  const usual = setUp();
  await usual.loader.start();
  expect(usual.loader.isOtherEdition).toBe(false);
});

test('a fallback, care or another edition is something to say of a model, once it is loaded', async () => {
  const usual = setUp().loader;
  await usual.start();
  expect(usual.isOtherwise).toBe(false);
  const fellBack = [{ from: 'WebGPU f16', because: 'WrongNumbers' } as const];
  for (const info of [{ fellBack }, { insteadKey: 'nano@1111111111111111' }]) {
    const { loader } = setUp({ info });
    const starting = loader.start();
    expect(loader.isOtherwise).toBe(false);
    await starting;
    expect(loader.isOtherwise).toBe(true);
  }
  died('load usual');
  const { loader } = setUp();
  await loader.start();
  expect(loader.isOtherwise).toBe(true);
  await loader.startUsual();
  expect(loader.isOtherwise).toBe(false);
});

test('a worker that dies is started anew once, each time with less, then the person is asked', async () => {
  const { engine, loader } = setUp();
  const died = new Failure('WorkerLost', 'gone');
  const deaths: ((error: Error) => void)[] = [];
  engine.lost = () => new Promise((_, reject) => deaths.push(reject));
  await loader.start();
  deaths.at(-1)?.(died);
  await vi.waitFor(() => expect(engine.opened).toHaveLength(2));
  await vi.waitFor(() => expect(loader.phase).toBe('ready'));
  expect([loader.care, loader.carefulSince]).toEqual(['careful', 'worker']);
  expect(engine.careful).toEqual([false, true]);
  await vi.waitFor(() => expect(deaths).toHaveLength(2));
  deaths.at(-1)?.(died);
  await vi.waitFor(() => expect(loader.trouble?.name).toBe('WorkerLost'));
  expect(engine.opened).toHaveLength(2);
  await loader.start();
  expect(loader.phase).toBe('ready');
  expect(engine.backends).toEqual(['auto', 'auto', 'cpu']);
});

test('a worker that dies in a load is tried again with less', async () => {
  const { engine, loader } = setUp({ openFailures: [new Failure('WorkerLost', 'gone')] });
  await loader.start();
  expect([loader.phase, engine.careful]).toEqual(['failed', [false]]);
  await loader.start();
  expect([loader.phase, loader.carefulSince]).toEqual(['ready', 'worker']);
  expect(engine.careful).toEqual([false, true]);
});

test('a model that is lent is let go of, and the one that was chosen meanwhile comes back', async () => {
  const { engine, loader } = setUp();
  await loader.start();
  expect(await loader.lend()).toBe(true);
  expect([loader.phase, engine.closes]).toEqual(['lent', 1]);
  await loader.start();
  await loader.restart();
  await loader.takeOver();
  await loader.use('installed:other@1');
  expect(loader.phase).toBe('lent');
  expect(engine.opened).toHaveLength(1);
  await loader.takeBack();
  expect(loader.phase).toBe('ready');
  expect(engine.opened.at(-1)).toBe('installed:other@1');
  await loader.takeBack();
  expect(engine.opened).toHaveLength(2);
});

test('nothing is lent while it loads, and a dead worker has nothing to let go of', async () => {
  const { engine, loader } = setUp();
  const starting = loader.start();
  expect(await loader.lend()).toBe(false);
  await starting;
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  engine.close = () => Promise.reject(new Error('broken'));
  expect(await loader.lend()).toBe(true);
});

const upload = {
  phase: 'upload',
  bytesDone: 1,
  bytesTotal: 2,
  file: null,
  network: false,
} as const;

test('a load that hangs can be ended: another worker loads the model, and the old one says no more', async () => {
  let isHung = true;
  const pause = (): Promise<void> =>
    isHung ? new Promise<void>(() => undefined) : Promise.resolve();
  const { engine, loader } = setUp({ progress: [upload], pause });
  const hung = loader.start();
  await vi.waitFor(() => expect(loader.progress).toEqual(upload));
  isHung = false;
  const renewing = loader.renew();
  expect(loader.phase).toBe('starting');
  await Promise.all([loader.renew(), loader.use('installed:other@1'), loader.takeOver()]);
  await renewing;
  await hung;
  expect([loader.phase, loader.trouble, engine.renews]).toEqual(['ready', null, 1]);
  expect(engine.opened).toEqual([folder, 'installed:other@1']);
  expect(marks()).toEqual([]);
});

test('a load that the person stops ends without a model, and goes on when asked', async () => {
  const steps = [upload, { ...upload, bytesDone: 2 }];
  const pause = (): Promise<void> => stopping();
  let stopping = (): Promise<void> => loader.stop();
  const { engine, loader } = setUp({ progress: steps, pause });
  await loader.start();
  expect([loader.phase, loader.trouble, loader.isStopping]).toEqual(['stopped', null, false]);
  expect(loader.progress?.bytesDone).toBe(1);
  expect([engine.stops, marks()]).toEqual([1, []]);
  // No death: the next load is the usual one.
  stopping = () => Promise.resolve();
  await loader.start();
  expect([loader.phase, loader.isStopping]).toEqual(['ready', false]);
  expect(engine.careful).toEqual([false, false]);
  await loader.stop();
  expect([loader.phase, engine.stops]).toEqual(['ready', 1]);
});

test('a stop before anything is loaded opens nothing, and another model may be chosen', async () => {
  const { engine, loader } = setUp();
  const starting = loader.start();
  await loader.stop();
  await starting;
  expect([loader.phase, engine.opened, engine.stops]).toEqual(['stopped', [], 0]);
  await loader.use('installed:other@1');
  expect([loader.phase, engine.opened]).toEqual(['ready', ['installed:other@1']]);
});

test('a load that fails while it is to be stopped says how it failed', async () => {
  const openFailures = [new Failure('ShardCorrupt', 'bits')];
  const { engine, loader } = setUp({
    progress: [upload],
    pause: () => loader.stop(),
    openFailures,
  });
  engine.stop = () => Promise.reject(new Failure('WorkerLost', 'gone'));
  await loader.start();
  expect([loader.phase, loader.trouble?.name]).toEqual(['failed', 'ShardCorrupt']);
  expect(loader.isStopping).toBe(false);
});

test('a worker that was ended is no worker that died: its end is no news, nor is what it held taken by force', async () => {
  const { engine, loader } = setUp();
  const ends: ((error: Error) => void)[] = [];
  engine.lost = () => new Promise((_, reject) => ends.push(reject));
  const options: unknown[] = [];
  const open = engine.open.bind(engine);
  engine.open = (url, onProgress, how) => {
    options.push(how?.takeOver);
    return open(url, onProgress, how);
  };
  await loader.start();
  await loader.renew();
  ends[0]?.(new Failure('WorkerLost', 'gone'));
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(loader.phase).toBe('ready');
  // Where the browser could not end it, the lock on the model is taken from it.
  engine.renew = () => Promise.resolve(false);
  await loader.renew();
  expect(options).toEqual([undefined, undefined, true]);
});
