import { beforeEach, expect, test, vi } from 'vitest';
import { Failure } from '../failure.ts';
import { Chat } from './chat.svelte.ts';
import { shownAnswer } from './conversation.ts';
import { FakeEngine, fakeInfo, type Script } from './testing/fake-engine.ts';
import { FakeRecords } from './testing/fake-records.ts';
import { FakeStorage } from './testing/fake-storage.ts';
import { Frames, Gate } from './testing/steps.ts';

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
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
    expect(records.saved.at(-1)).toEqual([
      { role: 'user', text: '问' },
      { role: 'assistant', text: '' },
    ]);
  };
  await ask('问');
  expect(seen).toEqual([1]);
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
  expect(records.kept.get('medkqa')?.at(-1)).toEqual({ role: 'assistant', text: '一二' });
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
  expect(records.kept.get('medkqa')?.at(-1)?.text).toBe('旧');
  await ask('再问');
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
  expect(records.saved.at(-1)?.at(-1)).toEqual({ role: 'assistant', text: '一二三' });
  const later = setUp({}, records);
  await later.chat.restore();
  expect(lastAnswer(later.chat)).toMatchObject({ text: '一二三', state: 'stopped' });
  now.mockRestore();
  await gate.run();
  await asking;
  expect(chat.phase).toBe('idle');
});

test('a new conversation can be taken back until the next question', async () => {
  const { chat, records, ask } = setUp();
  await ask('问');
  await chat.startAnew();
  expect(chat.turns).toEqual([]);
  expect(records.kept.has('medkqa')).toBe(false);
  await chat.takeBack();
  expect(chat.questions).toEqual(['问']);
  expect(records.kept.has('medkqa')).toBe(true);
  await chat.startAnew();
  await ask('新问');
  await chat.takeBack();
  expect(chat.questions).toEqual(['新问']);
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
