import { beforeEach, expect, test, vi } from 'vitest';
import { Failure } from '../failure.ts';
import { Chat } from './chat.svelte.ts';
import { shownAnswer } from './conversation.ts';
import { emptyIntake } from './intake/intake.ts';
import { FakeEngine, fakeInfo, type Script } from './testing/fake-engine.ts';
import { FakeLocks, marks } from './testing/fake-locks.ts';
import { FakeRecords } from './testing/fake-records.ts';
import { FakeStorage } from './testing/fake-storage.ts';
import { Frames, Gate } from './testing/steps.ts';

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
  vi.stubGlobal('navigator', { locks: new FakeLocks() });
});

function setUp(script: Script = {}, records = new FakeRecords()) {
  const engine = new FakeEngine(script);
  const frames = new Frames();
  let seed = 0;
  const chat = new Chat({
    task: 'medkqa',
    engine,
    records,
    sampling: () => fakeInfo.sampling,
    seed: () => (seed += 1),
    request: frames.request,
  });
  const ask = (text: string): Promise<boolean> => {
    chat.draft = text;
    return chat.send();
  };
  return { chat, engine, frames, records, ask };
}

function lastAnswer(chat: Chat) {
  const last = chat.turns.at(-1);
  if (last?.role !== 'assistant') throw new Error('no answer at the end');
  const answer = shownAnswer(last);
  if (!answer) throw new Error('no answer is shown');
  return answer;
}

test('a question is answered, and what is shown is what the engine said', async () => {
  const { chat, engine, ask } = setUp({ answers: [['多', '喝水', '。']] });
  expect(await ask('  宝宝发烧怎么办？ ')).toBe(true);
  expect(engine.requests).toHaveLength(1);
  expect(engine.requests[0]?.turns).toEqual([{ role: 'user', text: '宝宝发烧怎么办？' }]);
  expect(lastAnswer(chat)).toMatchObject({ text: '多喝水。', state: 'done' });
  expect(lastAnswer(chat).facts?.decodeTokensPerSecond).toBe(12.34);
  expect(chat.phase).toBe('idle');
  expect(chat.status).toBe('finished');
  expect(chat.draft).toBe('');
});

test('a second question carries the conversation so far', async () => {
  const { engine, ask } = setUp({ answers: [['第一答'], ['第二答']] });
  await ask('第一问');
  await ask('第二问');
  expect(engine.requests[1]?.turns).toEqual([
    { role: 'user', text: '第一问' },
    { role: 'assistant', text: '第一答' },
    { role: 'user', text: '第二问' },
  ]);
});

test('the question is kept before the engine gets it', async () => {
  const { engine, records, ask } = setUp();
  const seen: number[] = [];
  engine.onGenerate = () => {
    seen.push(records.saved.length);
    expect(records.said.at(-1)).toEqual(['问', '']);
    // Should the page die now, the answer is one that was interrupted.
    expect(records.saved.at(-1)?.messages[1]?.state).toBe('partial');
  };
  await ask('问');
  expect(seen).toEqual([1]);
});

test('a page that dies during an answer leaves a mark; an answer that ends or fails does not', async () => {
  const { engine, ask } = setUp({
    failure: { after: 1, error: new Failure('DeviceLost', 'driver reset') },
  });
  const seen: string[] = [];
  engine.onGenerate = () => seen.push(...marks());
  await ask('问');
  expect(marks()).toEqual([]);
  await ask('再问');
  expect(marks()).toEqual([]);
  expect(seen).toEqual(['answer usual', 'answer usual']);
});

test('stop keeps what is there and marks it', async () => {
  const gate = new Gate();
  const { chat, engine, frames, records, ask } = setUp({
    answers: [['一', '二', '三', '四']],
    pause: gate.pause,
  });
  const asking = ask('问');
  await gate.step(3); // two of prefill, one piece; the second piece is out
  frames.paint();
  expect(chat.phase).toBe('decode');
  expect(lastAnswer(chat)).toMatchObject({ text: '一二', state: 'streaming' });
  await chat.stop();
  expect(chat.phase).toBe('stopping');
  await chat.stop(); // a second click changes nothing
  expect(engine.stops).toBe(1);
  await gate.run();
  await asking;
  expect(lastAnswer(chat)).toMatchObject({ text: '一二', state: 'stopped' });
  expect(chat.status).toBe('stopped');
  expect(records.said.at(-1)).toEqual(['问', '一二']);
  expect(records.saved.at(-1)?.messages[1]?.state).toBe('stopped');
});

test('a stop that comes before the engine has begun is honoured', async () => {
  const { chat, engine, ask } = setUp();
  const asking = ask('问');
  await chat.stop();
  await asking;
  expect(engine.requests).toEqual([]);
  expect(lastAnswer(chat)).toMatchObject({ text: '', state: 'stopped' });
});

test('pieces are painted at most once per frame', async () => {
  const gate = new Gate();
  const { chat, frames, ask } = setUp({ answers: [['一', '二', '三']], pause: gate.pause });
  const asking = ask('问');
  await gate.step(1);
  frames.paint();
  expect(chat.prefill).toEqual({ done: 32, total: 32, remainingMs: 0 });
  const before = frames.asked;
  await gate.step(3);
  expect(frames.asked - before).toBe(1);
  expect(lastAnswer(chat).text).toBe('');
  frames.paint();
  expect(lastAnswer(chat).text).toBe('一二三');
  await gate.run();
  await asking;
});

test('an answer that is asked for again stays beside the new one', async () => {
  const { chat, engine, records, ask } = setUp({ answers: [['旧'], ['新'], ['后']] });
  await ask('问');
  await chat.regenerate();
  expect(engine.requests[1]?.turns).toEqual([{ role: 'user', text: '问' }]);
  expect(engine.requests[1]?.seed).not.toBe(engine.requests[0]?.seed);
  const last = chat.turns.at(-1);
  if (last?.role !== 'assistant') throw new Error('no answer');
  expect(last.answers.map(({ text }) => text)).toEqual(['旧', '新']);
  expect(lastAnswer(chat).text).toBe('新');
  chat.show(last, 0);
  expect(lastAnswer(chat).text).toBe('旧');
  await ask('再问');
  const kept = records.saved.at(-1);
  expect(kept?.messages.map(({ text }) => text)).toEqual(['问', '旧', '新', '再问', '后']);
  expect(kept?.leaf).toBe(kept?.messages.at(-1)?.id);
  expect(engine.requests[2]?.turns[1]).toEqual({ role: 'assistant', text: '旧' });
});

test('a failure is named, keeps the words so far, and can be tried again', async () => {
  const failure = { after: 1, error: new Failure('DeviceLost', 'gone') };
  const { chat, engine, ask } = setUp({ answers: [['半', '句'], ['整句']], failure });
  await ask('问');
  expect(lastAnswer(chat)).toMatchObject({ text: '半', state: 'failed' });
  expect(lastAnswer(chat).trouble?.name).toBe('DeviceLost');
  expect(chat.status).toBe('failed');
  await chat.regenerate();
  expect(engine.requests).toHaveLength(2);
  expect(lastAnswer(chat)).toMatchObject({ text: '整句', state: 'done' });
});

test('a bug is shown as one, with a code, and its details go to the console', async () => {
  const console_ = vi.spyOn(console, 'error').mockImplementation(() => undefined);
  const error = new TypeError('x is not a function');
  const { chat, ask } = setUp({ answers: [['半', '句']], failure: { after: 0, error } });
  await ask('问');
  const { trouble } = lastAnswer(chat);
  expect(trouble?.name).toBe('Bug');
  expect(trouble?.code).toMatch(/^B-[0-9A-F]{6}$/);
  expect(console_).toHaveBeenCalledWith(trouble?.code, error);
  console_.mockRestore();
});

test('a question without a word of answer does not go into the next prompt', async () => {
  const failure = { after: 0, error: new Failure('Busy', 'busy') };
  const { engine, ask } = setUp({ answers: [['甲'], ['乙']], failure });
  await ask('没有答');
  await ask('新问');
  expect(engine.requests[1]?.turns).toEqual([{ role: 'user', text: '新问' }]);
});

test('nothing is asked while an answer runs, without a model, or without words', async () => {
  const gate = new Gate();
  const { chat, engine, ask } = setUp({ pause: gate.pause });
  expect(await ask('   ')).toBe(false);
  const asking = ask('问');
  await gate.step(1);
  expect(await ask('抢问')).toBe(false);
  expect(chat.draft).toBe('抢问');
  await gate.run();
  await asking;
  expect(engine.requests).toHaveLength(1);
  const without = new Chat({
    task: 'medkqa',
    engine,
    records: new FakeRecords(),
    sampling: () => null,
    seed: () => 1,
  });
  without.draft = '问';
  expect(await without.send()).toBe(false);
  expect(without.draft).toBe('问');
});

test('a reload loses no word: turns, the mark of a stopped answer and the draft come back', async () => {
  const gate = new Gate();
  const first = setUp({ answers: [['半句', '话']], pause: gate.pause });
  const asking = first.ask('问');
  await gate.step(2);
  await first.chat.stop();
  await gate.run();
  await asking;
  first.chat.draft = '还没发';
  first.chat.keepDraft();
  const second = setUp({}, first.records);
  await second.chat.restore();
  expect(second.chat.questions).toEqual(['问']);
  expect(lastAnswer(second.chat)).toMatchObject({ text: '半句', state: 'stopped' });
  expect(second.chat.draft).toBe('还没发');
});

test('a page that dies in the middle of an answer has kept it in part', async () => {
  const gate = new Gate();
  const { records, frames, ask, chat } = setUp({
    answers: [['一', '二', '三']],
    pause: gate.pause,
  });
  const now = vi.spyOn(performance, 'now').mockReturnValue(0);
  const asking = ask('问');
  await gate.step(4);
  now.mockReturnValue(5000);
  frames.paint();
  await vi.waitUntil(() => records.saved.length > 1);
  expect(records.said.at(-1)).toEqual(['问', '一二三']);
  const later = setUp({}, records);
  await later.chat.restore();
  expect(lastAnswer(later.chat)).toMatchObject({ text: '一二三', state: 'partial' });
  now.mockRestore();
  await gate.run();
  await asking;
  expect(chat.phase).toBe('idle');
});

test('a new conversation can be taken back until the next question, and nothing is deleted', async () => {
  const { chat, records, ask } = setUp();
  await ask('问');
  await chat.startAnew();
  expect(chat.turns).toEqual([]);
  expect((await records.list()).entries.map(({ title }) => title)).toEqual(['问']);
  await chat.takeBack();
  expect(chat.questions).toEqual(['问']);
  await chat.startAnew();
  await ask('新问');
  await chat.takeBack();
  expect(chat.questions).toEqual(['新问']);
  const titles = (await records.list()).entries.map(({ title }) => title);
  expect(titles.sort()).toEqual(['新问', '问']);
});

test('a new conversation that was begun is still new after a reload', async () => {
  const { chat, records, ask } = setUp();
  await ask('问');
  await chat.startAnew();
  const later = setUp({}, records);
  await later.chat.restore();
  expect(later.chat.turns).toEqual([]);
});

test('a question can be asked in another version; the first one and its answers stay', async () => {
  const { chat, engine, records, ask } = setUp({ answers: [['甲'], ['乙'], ['丙']] });
  await ask('问');
  await ask('再问');
  const [first] = chat.turns;
  if (first?.role !== 'user') throw new Error('no question');
  expect(await chat.edit(first, '  ')).toBe(false);
  expect(await chat.edit(first, ' 改问 ')).toBe(true);
  expect(engine.requests[2]?.turns).toEqual([{ role: 'user', text: '改问' }]);
  expect(chat.questions).toEqual(['改问']);
  expect(records.said.at(-1)).toEqual(['问', '甲', '再问', '乙', '改问', '丙']);
  const [edited] = chat.turns;
  if (edited?.role !== 'user') throw new Error('no question');
  expect([edited.shown, edited.questions.length]).toEqual([1, 2]);
  // Back on the first branch the conversation is there to where it went on last.
  chat.show(edited, 0);
  expect(chat.questions).toEqual(['问', '再问']);
  expect(lastAnswer(chat).text).toBe('乙');
  const later = setUp({}, records);
  const seen = records.saved.length;
  await vi.waitUntil(
    () => records.saved.length > seen - 1 && records.saved.at(-1)?.leaf === lastAnswer(chat).id,
  );
  await later.chat.restore();
  expect(later.chat.turns[0]).toMatchObject({ role: 'user', shown: 0 });
});

test('an earlier answer is shown with what followed it', async () => {
  const { chat, ask } = setUp({ answers: [['甲'], ['乙'], ['丙']] });
  await ask('问');
  await ask('再问');
  const second = chat.turns[1];
  if (second?.role !== 'assistant') throw new Error('no answer');
  expect(second.answers).toHaveLength(1);
  const [first] = chat.turns;
  if (first?.role !== 'user') throw new Error('no question');
  await chat.edit(first, '别的');
  expect(chat.questions).toEqual(['别的']);
  const [shown] = chat.turns;
  if (shown?.role !== 'user') throw new Error('no question');
  chat.show(shown, 7);
  expect(chat.questions).toEqual(['别的']);
  chat.show(shown, 0);
  expect(chat.questions).toEqual(['问', '再问']);
});

test('an interrupted answer can be gone on with, or asked for again', async () => {
  const { chat, engine, records, ask } = setUp({ answers: [['半句'], ['后半句'], ['整句']] });
  await ask('问');
  const kept = records.saved.at(-1);
  if (!kept?.messages[1]) throw new Error('nothing was kept');
  kept.messages[1].state = 'partial';
  await chat.resume(kept);
  expect(lastAnswer(chat).state).toBe('partial');
  await chat.goOn();
  expect(engine.requests[1]?.turns.map(({ role }) => role)).toEqual(['user', 'assistant', 'user']);
  expect(engine.requests[1]?.turns[1]?.text).toBe('半句');
  await chat.resume(kept);
  await chat.regenerate();
  expect(engine.requests[2]?.turns).toEqual([{ role: 'user', text: '问' }]);
  expect(lastAnswer(chat).text).toBe('整句');
});

test('what a person thinks of an answer is kept with it, and with what made it', async () => {
  const { chat, records, ask } = setUp();
  await ask('问');
  await chat.judge(lastAnswer(chat), { mark: 'bad', reason: '答非所问' });
  expect(records.saved.at(-1)?.messages[1]).toMatchObject({
    feedback: { mark: 'bad', reason: '答非所问' },
    backend: 'wgsl',
    variant: 'f32',
    finish: 'stop',
  });
  await chat.judge(lastAnswer(chat), null);
  expect(records.saved.at(-1)?.messages[1]?.feedback).toBeNull();
});

test('behind a passphrase a draft does not lie open, and comes back once unlocked', async () => {
  const { chat, records } = setUp();
  chat.draft = '秘密的草稿';
  chat.keepDraft();
  expect(localStorage.getItem('pediatricsgpt.draft.medkqa')).toBe('秘密的草稿');
  await records.setPassphrase('豆豆的口令');
  chat.keepDraft();
  expect(localStorage.getItem('pediatricsgpt.draft.medkqa')).toBeNull();
  await vi.waitUntil(async () => (await records.draft('medkqa')) !== '');
  const again = new FakeRecords(records.place);
  const later = setUp({}, again);
  await later.chat.restore();
  expect(later.chat.draft).toBe('');
  expect(later.chat.notKept).toBeNull();
  await again.unlock('豆豆的口令');
  await later.chat.restore();
  expect(later.chat.draft).toBe('秘密的草稿');
});

test('what is asked while the records are locked is said not to be kept, and is kept once open', async () => {
  const { records } = setUp();
  await records.setPassphrase('豆豆的口令');
  const again = new FakeRecords(records.place);
  const { chat, ask } = setUp({}, again);
  await ask('锁着问');
  expect(chat.notKept).toBe('RecordsLocked');
  expect(lastAnswer(chat).state).toBe('done');
  await again.unlock('豆豆的口令');
  await chat.restore();
  expect(chat.notKept).toBeNull();
  expect((await again.list()).entries.map(({ title }) => title)).toEqual(['锁着问']);
});

test('a new conversation stops a running answer first', async () => {
  const gate = new Gate();
  const { chat, engine, ask } = setUp({ answers: [['一', '二']], pause: gate.pause });
  const asking = ask('问');
  await gate.step(2);
  const anew = chat.startAnew();
  await gate.run();
  await Promise.all([asking, anew]);
  expect(engine.stops).toBe(1);
  expect(chat.turns).toEqual([]);
  expect(chat.putAway).toHaveLength(2);
});

test('storage that is full is said, and the answer goes on', async () => {
  const { chat, records, ask } = setUp();
  records.failure = new Failure('StorageFull', 'no room');
  await ask('问');
  expect(chat.notKept).toBe('StorageFull');
  expect(lastAnswer(chat).state).toBe('done');
  records.failure = null;
  await chat.regenerate();
  expect(chat.notKept).toBeNull();
});

test('a GPU that fails during an answer is said until the answer goes on', async () => {
  const said: boolean[] = [];
  const script: Script = { answers: [['多', '喝水']], recoverAfter: 1 };
  const engine = new FakeEngine(script);
  const chat: Chat = new Chat({
    task: 'medkqa',
    engine,
    records: new FakeRecords(),
    sampling: () => fakeInfo.sampling,
    seed: () => 1,
    request: (run) => {
      run();
      said.push(chat.isRecovering);
    },
  });
  chat.draft = '问';
  await chat.send();
  expect(said).toContain(true);
  expect(said.at(-1)).toBe(false);
  expect(chat.isRecovering).toBe(false);
  expect(lastAnswer(chat)).toMatchObject({ text: '多喝水', state: 'done' });
});

test('what is known of the child goes before the first question, is pinned, and is kept', async () => {
  const { chat, engine, ask, records } = setUp({ answers: [['第一答'], ['第二答']] });
  await chat.setIntake({ ...emptyIntake, ageDays: 250, symptoms: '咳嗽' });
  expect(chat.facts).toBe('患儿情况：年龄：8个月；症状：咳嗽。');
  await ask('怎么办？');
  expect(engine.requests[0]?.turns).toEqual([
    { role: 'user', text: `${chat.facts}\n怎么办？`, pinned: true },
  ]);
  await chat.setIntake({ ...emptyIntake, ageDays: 250, symptoms: '咳嗽、发热' });
  await ask('还有呢？');
  expect(engine.requests[1]?.turns).toEqual([
    { role: 'user', text: '患儿情况：年龄：8个月；症状：咳嗽、发热。\n怎么办？', pinned: true },
    { role: 'assistant', text: '第一答' },
    { role: 'user', text: '还有呢？' },
  ]);
  // The question itself is as it was typed.
  expect(chat.questions).toEqual(['怎么办？', '还有呢？']);
  const kept = await records.consultation(chat.thread.id);
  expect(kept?.intake?.symptoms).toBe('咳嗽、发热');
  await chat.startAnew();
  expect(chat.facts).toBe('');
});

test('a system text goes along only where there is one', async () => {
  const engine = new FakeEngine({});
  let system = '';
  const chat = new Chat({
    task: 'medkqa',
    engine,
    records: new FakeRecords(),
    sampling: () => fakeInfo.sampling,
    seed: () => 1,
    system: () => system,
    request: new Frames().request,
  });
  chat.draft = '问';
  await chat.send();
  system = '请用一句话回答。';
  chat.draft = '问';
  await chat.send();
  expect(engine.requests.map((request) => request.system)).toEqual([undefined, system]);
});

test('a consultation that went on elsewhere is read again', async () => {
  const records = new FakeRecords();
  const { chat, ask } = setUp({ answers: [['答']] }, records);
  await ask('问');
  const kept = await records.consultation(chat.thread.id);
  if (kept === null) throw new Error('nothing is kept');
  const other = setUp({ answers: [['又答']] }, records);
  await other.chat.resume(kept);
  await other.ask('又问');
  expect(chat.questions).toEqual(['问']);
  await chat.readAgain();
  expect(chat.questions).toEqual(['问', '又问']);
});
