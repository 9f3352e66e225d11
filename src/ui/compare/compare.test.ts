import { render } from 'svelte/server';
import { afterEach, beforeEach, describe, expect, it, test, vi } from 'vitest';
import { Failure, type FailureName } from '../../failure.ts';
import { aborted } from '../../peer/client.ts';
import type { PeerModel, SideEngine, SideRequest, SideResult } from '../../peer/api.ts';
import type { ModelEntry, ModelsApi } from '../../worker/api.ts';
import { FakeEngine, fakeInfo } from '../testing/fake-engine.ts';
import { FakeLocks, marks } from '../testing/fake-locks.ts';
import { FakeRecords } from '../testing/fake-records.ts';
import { FakeStorage } from '../testing/fake-storage.ts';
import { en } from '../words/en.ts';
import { zh } from '../words/zh.ts';
import { Workspace } from '../workspace.svelte.ts';
import { Compare, PEER } from './compare.svelte.ts';
import CompareScreen from './CompareScreen.svelte';
import type { OurChoice } from './our-side.ts';

const page = 'http://clinic.test/app/';

const entry = (key: string, state: ModelEntry['state'] = 'ready'): ModelEntry => ({
  key,
  id: key,
  name: { zh: `模型${key}`, en: `Model ${key}` },
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
  source: { kind: 'url', from: `${page}models/${key}/` },
});

const imported: PeerModel = {
  name: 'their model',
  bytes: 96,
  tensors: 3,
  contextTokens: 512,
  library: { name: 'l.wasm', bytes: 100, sha256: 'ab'.repeat(32) },
  manifest: { name: 'tensor-cache.json', sha256: 'cd'.repeat(32) },
  hasChecksums: true,
  needsF16: false,
  files: [],
};

/** What a side does when it is its turn. */
interface Script {
  loadError?: Error;
  answerError?: Error;
  /** Held until a test lets it go on. */
  hold?: 'load' | 'answer';
  /** Says nothing more, whatever it is asked, until its worker is ended. */
  hang?: 'load' | 'answer';
}

let log: string[];
let requests: SideRequest[];
let scripts: Record<string, Script>;
let letGo: () => void;

function fakeSide(name: string): SideEngine {
  const script = scripts[name] ?? {};
  log.push(`start ${name}`);
  const held = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      letGo = resolve;
      signal.addEventListener('abort', () => reject(new Failure('Cancelled', 'stopped')));
    });
  let killed: (error: Error) => void = () => undefined;
  const hung = () => new Promise<never>((_, reject) => (killed = reject));
  return {
    async load(onProgress, signal) {
      log.push(`load ${name}`);
      onProgress({ phase: 'upload', part: 0.5 });
      if (script.hang === 'load') await Promise.race([hung(), aborted(signal)]);
      if (script.hold === 'load') await held(signal);
      if (script.loadError) throw script.loadError;
      return { model: name, backend: 'wgsl', variant: 'f32', adapter: 'a GPU' };
    },
    async generate(request, onPiece, signal): Promise<SideResult> {
      log.push(`ask ${name}`);
      requests.push(request);
      onPiece(`我是${name}`);
      let finish: SideResult['finish'] = 'stop';
      if (script.hang === 'answer') await hung();
      if (script.hold === 'answer') await held(signal).catch(() => (finish = 'cancelled'));
      if (script.answerError) throw script.answerError;
      return {
        text: `我是${name}`,
        promptTokens: 9,
        reusedTokens: 2,
        outputTokens: 3,
        prefillTokensPerSecond: 90,
        decodeTokensPerSecond: 12.34,
        finish,
        ran: { backend: 'onnx', variant: 'f32', adapter: 'CPU' },
      };
    },
    end() {
      log.push(`end ${name}`);
      killed(new Failure('WorkerHung', 'ended'));
    },
    dispose() {
      log.push(`dispose ${name}`);
      return Promise.resolve();
    },
  };
}

let engine: FakeEngine;
let workspace: Workspace;
let compare: Compare;
let started: OurChoice[];
let models: Pick<ModelsApi, 'list'>;

beforeEach(async () => {
  vi.stubGlobal('localStorage', new FakeStorage());
  vi.stubGlobal('navigator', { locks: new FakeLocks() });
  vi.stubGlobal('requestAnimationFrame', (run: () => void) => setTimeout(run, 0));
  log = [];
  requests = [];
  scripts = {};
  started = [];
  engine = new FakeEngine();
  workspace = new Workspace({
    engine,
    records: new FakeRecords(),
    folder: () => `${page}models/b/`,
    languages: ['zh-CN'],
    english: en,
  });
  await workspace.start();
  models = {
    list: () => Promise.resolve([entry('a'), entry('b', 'available'), entry('c', 'partial')]),
  };
  compare = new Compare({
    workspace,
    models,
    page,
    request: (run) => run(),
    startOurs: (choice) => {
      started.push(choice);
      return fakeSide(choice.backend);
    },
    startPeer: ({ name }) => fakeSide(name),
    checkPicked: (_, onProgress) => {
      onProgress(1);
      return Promise.resolve({ problem: null, model: imported });
    },
  });
  await compare.show();
  compare.draft = '宝宝咳嗽三天怎么办？';
});

test('packages that are whole can be chosen, beginning with the one in use', () => {
  expect(compare.entries?.map(({ key }) => key)).toEqual(['a', 'b']);
  expect(compare.picks.map(({ model, backend }) => [model, backend])).toEqual([
    ['b', 'webgpu'],
    ['b', 'cpu'],
  ]);
});

test('one side runs after the other, with the same question, sampling and seed', async () => {
  compare.picks[0].model = 'a';
  compare.picks[1].task = 'evidiag';
  engine.stops = 0;
  await compare.compare();
  expect(log).toEqual([
    'start webgpu',
    'load webgpu',
    'ask webgpu',
    'dispose webgpu',
    'start cpu',
    'load cpu',
    'ask cpu',
    'dispose cpu',
  ]);
  expect(requests[0]).toBe(requests[1]);
  expect(requests[0]).toMatchObject({
    question: '宝宝咳嗽三天怎么办？',
    sampling: workspace.settings.sampling(fakeInfo.sampling),
  });
  expect(started).toEqual([
    { address: 'installed:a', backend: 'webgpu', task: 'medkqa', careful: false },
    { address: `${page}models/b/`, backend: 'cpu', task: 'evidiag', careful: false },
  ]);
  const [first, second] = compare.runs;
  expect(first).toMatchObject({ state: 'done', text: '我是webgpu' });
  expect(second).toMatchObject({ state: 'done', text: '我是cpu' });
  // What really ran, not what was asked for.
  expect(first?.model).toMatchObject({ backend: 'onnx', adapter: 'CPU' });
  expect(first?.firstMs).toBeGreaterThanOrEqual(0);
});

test('a page that dies in a comparison leaves a mark, one that ends it does not', async () => {
  scripts = { webgpu: { hold: 'answer' }, cpu: { loadError: new Failure('CpuLimit', 'large') } };
  const done = compare.compare();
  await vi.waitUntil(() => log.includes('ask webgpu'));
  expect(marks()).toEqual(['compare usual']);
  letGo();
  await done;
  expect(compare.runs.map(({ state }) => state)).toEqual(['done', 'failed']);
  expect(marks()).toEqual([]);
});

test('where the model is run with care, so are the sides', async () => {
  workspace.loader.care = 'careful';
  await compare.compare();
  expect(started.map(({ careful }) => careful)).toEqual([true, true]);
});

describe('the chat’s model', () => {
  it('leaves the memory first, and comes back when the screen is left', async () => {
    const opened = engine.opened.length;
    await compare.compare();
    expect(engine.closes).toBe(1);
    expect(workspace.loader.phase).toBe('lent');
    expect(workspace.canAsk('medkqa')).toBe(false);
    await compare.compare();
    expect(engine.opened).toHaveLength(opened);
    await compare.leave();
    expect(workspace.loader.phase).toBe('ready');
    expect(engine.opened).toHaveLength(opened + 1);
  });

  it('comes back at the end of a comparison that outlives its screen', async () => {
    scripts = { webgpu: { hold: 'answer' } };
    const done = compare.compare();
    await vi.waitUntil(() => log.includes('ask webgpu'));
    await compare.leave();
    expect(workspace.loader.phase).toBe('lent');
    letGo();
    await done;
    expect(log.at(-1)).toBe('dispose cpu');
    expect(workspace.loader.phase).toBe('ready');
  });

  it('stays where it is while nothing is compared', async () => {
    await compare.leave();
    expect(engine.closes).toBe(0);
    expect(workspace.loader.phase).toBe('ready');
  });
});

describe('a side that fails', () => {
  it.each<readonly [string, Script, FailureName]>([
    ['while it loads', { loadError: new Failure('DeviceLimit', 'too small') }, 'DeviceLimit'],
    ['in its answer', { answerError: new Failure('DeviceLost', 'gone') }, 'DeviceLost'],
  ])('%s is disposed of, and the other still answers', async (_, script, name) => {
    scripts = { webgpu: script };
    await compare.compare();
    const [first, second] = compare.runs;
    expect(first).toMatchObject({ state: 'failed', trouble: { name } });
    expect(first?.text).toBe(script.answerError ? '我是webgpu' : '');
    expect(second).toMatchObject({ state: 'done', text: '我是cpu' });
    expect(log.filter((line) => line.startsWith('dispose'))).toEqual([
      'dispose webgpu',
      'dispose cpu',
    ]);
  });

  it('second leaves the first one’s answer as it is', async () => {
    scripts = { cpu: { loadError: new Failure('CpuLimit', 'too large') } };
    await compare.compare();
    expect(compare.runs[0]).toMatchObject({ state: 'done', text: '我是webgpu' });
    expect(compare.runs[1]).toMatchObject({ state: 'failed', trouble: { name: 'CpuLimit' } });
    expect(compare.isRunning).toBe(false);
  });
});

describe('a stop', () => {
  it.each(['load', 'answer'] as const)(
    'during the first %s leaves out the second',
    async (hold) => {
      scripts = { webgpu: { hold } };
      const done = compare.compare();
      await vi.waitUntil(() => log.at(-1) === (hold === 'load' ? 'load webgpu' : 'ask webgpu'));
      compare.stop();
      await done;
      expect(compare.runs.map(({ state }) => state)).toEqual(['stopped', 'skipped']);
      expect(compare.runs[0]?.text).toBe(hold === 'load' ? '' : '我是webgpu');
      expect(log.at(-1)).toBe('dispose webgpu');
      expect(log).not.toContain('start cpu');
      expect(compare.isRunning).toBe(false);
    },
  );
});

describe('a side that hangs', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const pass = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);

  it.each<readonly ['load' | 'answer', number]>([
    ['load', 120],
    ['answer', 60],
  ])('in its %s is told of, not ended; who ends it gets the other side', async (hang, limit) => {
    scripts = { webgpu: { hang } };
    const done = compare.compare();
    await pass(limit - 1);
    const [first, second] = compare.runs;
    expect(first?.watch.stall).toBeNull();
    await pass(2);
    expect(first?.watch.stall).toMatchObject({ kind: hang });
    first?.watch.wait();
    expect(first?.watch.stall).toBeNull();
    await pass(limit + 2);
    expect(first?.watch.stall).not.toBeNull();
    expect(log).not.toContain('end webgpu');
    expect(second?.state).toBe('waiting');
    first?.end();
    first?.end();
    await done;
    expect(first).toMatchObject({ state: 'failed', trouble: { name: 'WorkerHung' } });
    expect(first?.text).toBe(hang === 'answer' ? '我是webgpu' : '');
    expect(first?.watch.stall).toBeNull();
    expect(second).toMatchObject({ state: 'done', text: '我是cpu' });
    expect(log.filter((line) => line === 'end webgpu')).toHaveLength(1);
    expect(log.indexOf('dispose webgpu')).toBeLessThan(log.indexOf('start cpu'));
    first?.end(); // it is over
    expect(log.filter((line) => line === 'end webgpu')).toHaveLength(1);
  });

  it.each(['load', 'answer'] as const)(
    'in its %s is ended by a stop, which leaves out the other',
    async (hang) => {
      scripts = { webgpu: { hang } };
      const done = compare.compare();
      await pass(122);
      expect(compare.runs[0]?.watch.stall).not.toBeNull();
      compare.stop();
      await done;
      const [first, second] = compare.runs;
      expect(first).toMatchObject({ state: 'failed', trouble: { name: 'WorkerHung' } });
      expect(second?.state).toBe('skipped');
      expect(log.slice(-2)).toEqual(['end webgpu', 'dispose webgpu']);
      expect(compare.isRunning).toBe(false);
    },
  );

  it('after a stop is ended by itself, when it has been silent for long', async () => {
    scripts = { webgpu: { hang: 'answer' } };
    const done = compare.compare();
    await pass(5);
    compare.stop();
    await pass(50);
    expect(compare.runs[0]?.state).toBe('answering');
    await pass(6);
    await done;
    expect(compare.runs[0]).toMatchObject({ state: 'failed', text: '我是webgpu' });
    expect(compare.runs[0]?.trouble?.name).toBe('WorkerHung');
    expect(compare.runs[1]?.state).toBe('skipped');
    expect(log.slice(-2)).toEqual(['end webgpu', 'dispose webgpu']);
  });
});

test('nothing is compared without a question, a model, or while the chat answers', async () => {
  compare.draft = '  ';
  expect(compare.hindrance).toBe('question');
  await compare.compare();
  expect(log).toEqual([]);
  compare.draft = '问';
  compare.picks[0].model = PEER;
  expect(compare.hindrance).toBe('peer');
  compare.picks[0].model = '';
  expect(compare.hindrance).toBe('model');
  compare.picks[0].model = 'a';
  expect(compare.hindrance).toBeNull();
  let seen: string | null = null;
  engine.onGenerate = () => (seen = compare.hindrance);
  workspace.chat.draft = '问';
  await workspace.send();
  expect(seen).toBe('answer');
});

test('danger signs in the question are noticed, with no model at all', async () => {
  compare.entries = [];
  compare.picks[0].model = '';
  compare.draft = '宝宝抽搐了，叫不醒';
  await compare.compare();
  expect(log).toEqual([]);
  expect(compare.alarm.signs.map(({ id }) => id)).toContain('convulsion');
  expect(compare.alarm.isOpen).toBe(true);
  workspace.alarmBeside = compare.alarm;
  expect(workspace.shownAlarm).toBe(compare.alarm);
  compare.alarm.look('');
  expect(workspace.shownAlarm).toBe(workspace.alarm);
});

describe('an imported model', () => {
  it('is one of the sides, and is remembered by its run', async () => {
    await compare.importFrom({ kind: 'files', files: [] });
    expect(compare.imported).toBe(imported);
    compare.picks[1].model = PEER;
    await compare.compare();
    expect(compare.runs[1]).toMatchObject({
      choice: { kind: 'peer', title: 'their model', asked: null },
      text: '我是their model',
    });
    compare.forget();
    expect(compare.imported).toBeNull();
    expect(compare.ranWith).toBe(imported);
  });

  it('that is not good is told, and the one before is gone', async () => {
    await compare.importFrom({ kind: 'files', files: [] });
    const problem = { kind: 'missing', file: 'a.bin', detail: '' } as const;
    const bad = new Compare({
      workspace,
      models,
      page,
      checkPicked: () => Promise.resolve({ problem, model: null }),
    });
    bad.imported = imported;
    await bad.importFrom({ kind: 'files', files: [] });
    expect(bad.imported).toBeNull();
    expect(bad.problem).toBe(problem);
    expect(bad.checking).toBeNull();
  });

  it('can be left in the middle of its check', async () => {
    const slow = new Compare({
      workspace,
      models,
      page,
      checkPicked: (_, __, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(new Failure('Cancelled', 'stopped')));
        }),
    });
    const done = slow.importFrom({ kind: 'files', files: [] });
    expect(slow.checking).toBe(0);
    slow.cancelImport();
    await done;
    expect([slow.checking, slow.imported, slow.problem, slow.importTrouble]).toEqual([
      null,
      null,
      null,
      null,
    ]);
  });
});

test('a list that does not come is told, and the screen stays', async () => {
  models.list = () => Promise.reject(new Failure('StorageBlocked', 'no storage'));
  const without = new Compare({ workspace, models, page });
  await without.show();
  expect(without.listTrouble?.name).toBe('StorageBlocked');
  expect(without.entries).toEqual([]);
  expect(without.hindrance).toBe('model');
});

test.each([
  ['zh-CN', zh, '同一个问题'],
  ['en-US', en, 'One question'],
])('the screen speaks %s and has nothing inline', async (tag, words, lead) => {
  localStorage.clear();
  vi.stubGlobal('location', { href: page });
  const speaking = new Workspace({
    engine,
    records: new FakeRecords(),
    folder: () => page,
    languages: [tag],
    english: en,
  });
  await speaking.start();
  const { body } = render(CompareScreen, {
    props: { workspace: speaking, models: models as ModelsApi },
  });
  expect(body).toContain(lead);
  expect(body).not.toMatch(/ style="| onclick="|javascript:/);
  expect(words.shell.screens.compare.length).toBeGreaterThan(3);
});
