import { beforeEach, expect, test, vi } from 'vitest';
import { Failure } from '../failure.ts';
import { MemoryPlace, planImport } from '../store/records.ts';
import { FakeEngine, fakeInfo, type Script } from './testing/fake-engine.ts';
import { FakeRecords } from './testing/fake-records.ts';
import { FakeStorage } from './testing/fake-storage.ts';
import { Workspace } from './workspace.svelte.ts';

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
  vi.stubGlobal('requestAnimationFrame', (run: () => void) => setTimeout(run, 0));
});

function setUp(script: Script = {}) {
  const engine = new FakeEngine(script);
  const folder = (): string => 'http://localhost/models/nano/';
  const workspace = new Workspace({ engine, records: new FakeRecords(), folder, languages: [] });
  return { engine, workspace };
}

test('each task has its own conversation, and the request names the task', async () => {
  const { engine, workspace } = setUp();
  await workspace.start();
  workspace.chat.draft = '知识';
  await workspace.send();
  workspace.choose('evidiag');
  expect(workspace.chat.turns).toEqual([]);
  workspace.chat.draft = '诊断';
  await workspace.send();
  expect(engine.requests.map(({ task, turns }) => [task, turns.length])).toEqual([
    ['medkqa', 1],
    ['evidiag', 1],
  ]);
  workspace.choose('medkqa');
  expect(workspace.chat.questions).toEqual(['知识']);
});

test('settings reach the engine', async () => {
  const { engine, workspace } = setUp();
  await workspace.start();
  workspace.settings.set('temperature', 0.8);
  workspace.settings.setSeed(true, 7);
  workspace.chat.draft = '问';
  await workspace.send();
  expect(engine.requests[0]).toMatchObject({ seed: 7, sampling: { temperature: 0.8 } });
});

test('before the model is there nothing is asked, the draft stays, and danger is seen', async () => {
  const { engine, workspace } = setUp();
  expect(workspace.canAsk('medkqa')).toBe(false);
  workspace.chat.draft = '孩子抽搐了';
  await workspace.send();
  expect(engine.requests).toEqual([]);
  expect(workspace.chat.draft).toBe('孩子抽搐了');
  expect(workspace.alarm.isOpen).toBe(true);
});

test('typing is looked at after a pause, sending at once', async () => {
  vi.useFakeTimers();
  const { workspace } = setUp();
  workspace.typed('嘴唇发紫');
  expect(workspace.alarm.signs).toEqual([]);
  vi.advanceTimersByTime(300);
  expect(workspace.alarm.isOpen).toBe(true);
  expect(localStorage.getItem('pediatricsgpt.draft.medkqa')).toBe('嘴唇发紫');
  vi.useRealTimers();
  await workspace.start();
  workspace.choose('trerecom');
  workspace.chat.draft = '误吞电池';
  await workspace.send();
  expect(workspace.alarm.signs.map(({ id }) => id)).toEqual(['battery-or-magnet']);
});

test('who leaves, or types elsewhere, before the pause is over loses no word', () => {
  const kept = (task: string) => localStorage.getItem(`pediatricsgpt.draft.${task}`);
  const { workspace } = setUp();
  workspace.typed('嘴唇发紫');
  workspace.choose('trerecom');
  workspace.typed('怎么');
  expect([kept('medkqa'), kept('trerecom')]).toEqual(['嘴唇发紫', null]);
  workspace.typed('怎么办');
  workspace.keepTyped();
  expect(kept('trerecom')).toBe('怎么办');
  workspace.choose('medkqa');
  expect(workspace.alarm.isOpen).toBe(true);
});

test('a draft that was kept with a danger sign in it warns from the start', () => {
  localStorage.setItem('pediatricsgpt.draft.medkqa', '叫不醒');
  expect(setUp().workspace.alarm.isOpen).toBe(true);
});

test('a task that the model lacks is not asked', async () => {
  const { workspace } = setUp({ info: { tasks: fakeInfo.tasks.slice(0, 1) } });
  await workspace.start();
  expect(workspace.canAsk('medkqa')).toBe(true);
  expect(workspace.canAsk('trerecom')).toBe(false);
});

test('one answer at a time: another task waits', async () => {
  let go: () => void = () => undefined;
  const pause = (): Promise<void> => new Promise((resolve) => (go = resolve));
  const { workspace } = setUp({ pause });
  await workspace.start();
  workspace.chat.draft = '问';
  const asking = workspace.send();
  workspace.choose('evidiag');
  expect(workspace.canAsk('evidiag')).toBe(false);
  const running = setInterval(() => go(), 1);
  await asking;
  clearInterval(running);
  expect(workspace.canAsk('evidiag')).toBe(true);
});

test('the chosen task is remembered', () => {
  setUp().workspace.choose('trerecom');
  expect(setUp().workspace.task).toBe('trerecom');
});

test('a question that did not fit is taken along into the new conversation', async () => {
  const error = new Failure('PromptTooLong', '1100 of 1024');
  const { workspace } = setUp({ failure: { after: 0, error } });
  await workspace.start();
  workspace.chat.draft = '很长的问题';
  await workspace.send();
  await workspace.askAnew();
  expect(workspace.chat.turns).toEqual([]);
  expect(workspace.chat.draft).toBe('很长的问题');
});

test('what computes can be chosen between answers, which loads the model again', async () => {
  let go: () => void = () => undefined;
  const pause = (): Promise<void> => new Promise((resolve) => (go = resolve));
  const { engine, workspace } = setUp({ pause });
  expect(workspace.canChooseBackend).toBe(false);
  await workspace.start();
  await workspace.chooseBackend('cpu');
  expect(engine.backends).toEqual(['auto', 'cpu']);
  workspace.chat.draft = '问';
  const asking = workspace.send();
  await workspace.chooseBackend('webgpu');
  expect(workspace.settings.backend).toBe('cpu');
  expect(engine.backends).toHaveLength(2);
  const running = setInterval(() => go(), 1);
  await asking;
  clearInterval(running);
  expect(workspace.canChooseBackend).toBe(true);
});

test('the page says what computes after a GPU has failed for good', async () => {
  const ran = { backend: 'onnx', variant: 'f32', adapter: 'CPU' } as const;
  const { workspace } = setUp({ ran, recoveries: ['DeviceLost', 'DeviceLost'] });
  await workspace.start();
  expect(workspace.loader.info?.backend).toBe('wgsl');
  workspace.chat.draft = '问';
  await workspace.send();
  expect(workspace.loader.info).toMatchObject(ran);
  expect(workspace.loader.info?.id).toBe(fakeInfo.id);
});

test('the records are listed once when the page starts, and every conversation is back', async () => {
  const records = new FakeRecords();
  const visit = () =>
    new Workspace({
      engine: new FakeEngine(),
      records,
      folder: () => 'http://localhost/models/nano/',
      languages: [],
    });
  const before = visit();
  await before.start();
  for (const task of ['medkqa', 'evidiag'] as const) {
    before.choose(task);
    before.chat.draft = task;
    await before.send();
  }
  await before.ledger.refresh();
  const list = vi.spyOn(records, 'list');
  const workspace = visit();
  await workspace.start();
  expect(list).toHaveBeenCalledTimes(1);
  expect(workspace.ledger.listing.entries.map(({ title }) => title)).toEqual(['evidiag', 'medkqa']);
  for (const task of ['medkqa', 'evidiag'] as const) {
    expect(workspace.chats[task].questions).toEqual([task]);
  }
});

test('records that the browser clears under the page can be saved from it, and are not written back', async () => {
  let close: () => void = () => undefined;
  class ClosingPlace extends MemoryPlace {
    onClosed = (tell: () => void): void => void (close = tell);
  }
  const place = new ClosingPlace();
  const records = new FakeRecords(place);
  const workspace = new Workspace({
    engine: new FakeEngine(),
    records,
    folder: () => 'http://localhost/models/nano/',
    languages: [],
  });
  await workspace.start();
  await workspace.ledger.saveChild(null, {
    nickname: '豆豆',
    birthDate: null,
    sex: 'unknown',
    weights: [],
    allergies: '',
    chronicIllness: '',
  });
  workspace.chat.draft = '问';
  await workspace.send();
  // A connection that is closed while everything is still there is no loss.
  close();
  await vi.waitFor(() => expect(workspace.ledger.state).toBe('open'));
  workspace.chat.draft = '再问';
  await workspace.send();
  expect(workspace.chat.notKept).toBeNull();

  const all = await place.list('');
  await place.change([], () => all.map(([key]) => ({ key, value: undefined })));
  close();
  await vi.waitFor(() => expect(workspace.ledger.state).toBe('cleared'));
  const text = (await workspace.ledger.exportAll('1')) ?? '';
  const plan = await planImport(new TextEncoder().encode(text), {
    children: [],
    consultations: [],
  });
  expect(plan.children.map(({ nickname }) => nickname)).toEqual(['豆豆']);
  expect(plan.consultations.map(({ messages }) => messages.map((one) => one.text))).toEqual([
    ['问', '好的。', '再问', '好的。'],
  ]);
  workspace.chat.draft = '三问';
  await workspace.send();
  expect(workspace.chat.notKept).toBe('StorageCleared');
  expect(await place.list('')).toEqual([]);
});

test('an answer that hangs is told of with all its words kept; ended by the person, it can go on or be given again', async () => {
  vi.useFakeTimers();
  vi.stubGlobal('requestAnimationFrame', (run: () => void) => setTimeout(run, 0));
  let isHung = true;
  let pieces = 0;
  const pause = (): Promise<void> => {
    pieces += 1;
    return isHung && pieces > 3 ? new Promise<void>(() => undefined) : Promise.resolve();
  };
  const engine = new FakeEngine({ answers: [['多喝', '水', '。']], pause });
  const records = new FakeRecords();
  const workspace = new Workspace({
    engine,
    records,
    folder: () => 'http://localhost/models/nano/',
    languages: [],
  });
  const { watch, chat } = workspace;
  try {
    await workspace.start();
    chat.draft = '问';
    const asking = workspace.send();
    await vi.advanceTimersByTimeAsync(59_000);
    expect(watch.stall).toBeNull();
    await vi.advanceTimersByTimeAsync(2000);
    expect(watch.stall?.kind).toBe('answer');
    expect(records.said.at(-1)).toEqual(['问', '多喝水']);
    // Stop asks a worker that hears nothing; the note stays.
    void chat.stop();
    isHung = false;
    await workspace.loader.renew();
    await asking;
    expect(watch.stall).toBeNull();
    expect(workspace.loader.phase).toBe('ready');
    const last = chat.turns.at(-1);
    const answer = last?.role === 'assistant' ? last.answers[0] : undefined;
    expect(answer).toMatchObject({ text: '多喝水', state: 'failed' });
    expect(answer?.trouble?.name).toBe('WorkerHung');
    await chat.regenerate();
    expect(records.said.at(-1)).toEqual(['问', '多喝水', '多喝水。']);
    await chat.goOn();
    expect(chat.turns).toHaveLength(4);
  } finally {
    vi.useRealTimers();
  }
});
