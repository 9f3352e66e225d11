import { expect, test } from 'vitest';
import { type ChildDraft, childProblems } from './child.ts';
import { SearchIndex } from './search.ts';
import { RecordStore, UNDO_MS } from './store.ts';
import { consultation, firstEdition, memory, message, NOW, plant } from './testing.ts';
import { merged, newestLeaf, pathTo, siblingsOf, treeFault } from './tree.ts';

const draft: ChildDraft = {
  nickname: '豆豆',
  birthDate: '2024-02-29',
  sex: 'female',
  weights: [{ kg: 12.4, date: '2026-11-01' }],
  allergies: '青霉素',
  chronicIllness: '',
};

function setUp(place = memory(), start = NOW) {
  let time = Date.parse(start);
  const now = () => new Date(time);
  const store = new RecordStore(place, { now });
  const wait = (ms: number) => (time += ms);
  return { place, store, wait };
}

test('a consultation comes back as it was kept, and is listed without its messages', async () => {
  const { store } = setUp();
  await store.keep(consultation('c1'));
  expect(await store.consultation('c1')).toEqual(consultation('c1'));
  const { entries, damaged } = await store.list();
  expect(entries).toEqual([
    {
      id: 'c1',
      child: null,
      task: 'medkqa',
      title: '宝宝发烧',
      created: NOW,
      updated: NOW,
      deleted: null,
    },
  ]);
  expect(damaged).toBe(0);
  expect(await store.consultation('c2')).toBeNull();
});

test('the list is newest first', async () => {
  const { store, wait } = setUp();
  for (const id of ['c1', 'c2', 'c3']) {
    await store.keep(consultation(id));
    wait(1000);
  }
  await store.keep(consultation('c1'));
  expect((await store.list()).entries.map(({ id }) => id)).toEqual(['c1', 'c3', 'c2']);
});

test('rename, child and intake stay when the conversation is kept again from older hands', async () => {
  const { store } = setUp();
  await store.keep(consultation('c1'));
  const child = await store.saveChild(null, draft);
  await store.rename('c1', '第一次发烧');
  await store.assign('c1', child.id);
  await store.keep(consultation('c1'));
  const kept = await store.consultation('c1');
  expect(kept).toMatchObject({ title: '第一次发烧', child: child.id });
  expect((await store.list()).entries[0]).toMatchObject({ title: '第一次发烧', child: child.id });
});

test('two windows lose no message of each other', async () => {
  const { place, store } = setUp();
  const other = new RecordStore(place);
  const base = consultation('c1');
  const branch = (id: string, text: string) => ({
    ...base,
    messages: [...base.messages, message(id, 'a1', text)],
    leaf: id,
  });
  await store.keep(base);
  await Promise.all([
    store.keep(branch('q2', '左边问')),
    other.keep(branch('q3', '右边问')),
    store.keep(branch('q4', '又问')),
  ]);
  const kept = await store.consultation('c1');
  expect(kept?.messages.map(({ id }) => id).sort()).toEqual(['a1', 'q1', 'q2', 'q3', 'q4']);
  expect(kept && treeFault(kept)).toBeNull();
});

test('an answer that has ended is not written over by an older half of it', () => {
  const answer = (text: string, state: 'partial' | 'done') =>
    consultation('c1', {
      messages: [message('q1', null, '问'), message('a1', 'q1', text, { state })],
    });
  const whole = answer('整句话。', 'done');
  expect(merged(answer('整', 'partial'), whole).messages[1]).toEqual(whole.messages[1]);
  expect(merged(whole, answer('整', 'partial')).messages[1]).toEqual(whole.messages[1]);
  const longer = answer('整句', 'partial');
  expect(merged(answer('整', 'partial'), longer).messages[1]?.text).toBe('整句');
});

test('what was deleted can be brought back for an hour, and is gone at a start after it', async () => {
  const { place, store, wait } = setUp();
  await store.keep(consultation('c1'));
  await store.keep(consultation('c2'));
  await store.remove('c1');
  expect((await store.list()).entries.map(({ id }) => id)).toEqual(['c2']);
  await store.restore('c1');
  expect((await store.list()).entries).toHaveLength(2);
  await store.remove('c1');
  wait(UNDO_MS - 1);
  const soon = new RecordStore(place, { now: () => new Date(Date.parse(NOW) + UNDO_MS - 1) });
  await soon.open();
  expect(await soon.consultation('c1')).not.toBeNull();
  const late = new RecordStore(place, { now: () => new Date(Date.parse(NOW) + UNDO_MS) });
  await late.open();
  expect(await late.consultation('c1')).toBeNull();
  expect((await place.list('')).map(([key]) => key).sort()).toEqual(['consult:c2', 'index:c2']);
});

test('a deletion dated far in the future is one of a wrong clock, and ends as well', async () => {
  const { place, store } = setUp(memory(), '2036-01-01T00:00:00.000Z');
  await store.keep(consultation('c1'));
  await store.remove('c1');
  const { store: later } = setUp(place);
  await later.open();
  expect(await place.list('')).toEqual([]);
});

test('a child is saved, changed, deleted and brought back; its consultations stay', async () => {
  const { store } = setUp();
  const child = await store.saveChild(null, draft);
  await store.keep(consultation('c1', { child: child.id }));
  const changed = await store.saveChild(child.id, { ...draft, nickname: ' 小豆 ' });
  expect(changed).toMatchObject({ id: child.id, nickname: '小豆', created: child.created });
  await store.removeChild(child.id);
  const without = await store.list();
  expect(without.children).toEqual([]);
  expect(without.entries).toHaveLength(1);
  await store.restoreChild(child.id);
  expect((await store.list()).children).toEqual([changed]);
});

test.each([
  ['', ['nickname-empty']],
  ['  ', ['nickname-empty']],
  ['豆'.repeat(41), ['nickname-long']],
  ['11010519491231002X', ['nickname-identity']],
  ['豆豆 １１０１０５１９４９１２３１００２１', ['nickname-identity']],
  ['110105 19491231 002x', ['nickname-identity']],
  ['110105491231002', ['nickname-identity']],
  ['13800138000', ['nickname-phone']],
  ['妈妈 +86 138-0013-8000', ['nickname-phone']],
  ['010-6255 1234', ['nickname-phone']],
  ['豆豆', []],
  ['老二 2024', []],
  ['三床 12', []],
  ['Emma', []],
])('the nickname %j has the problems %j', (nickname, problems) => {
  expect(childProblems({ ...draft, nickname }, new Date(NOW))).toEqual(problems);
});

test('days and weights that cannot be are refused by name, and nothing is saved', async () => {
  const today = new Date(2026, 10, 20);
  const problems = (more: Partial<ChildDraft>) => childProblems({ ...draft, ...more }, today);
  expect(problems({ birthDate: '2025-02-29' })).toEqual(['birth-no-day']);
  expect(problems({ birthDate: '2026-11-21' })).toEqual(['birth-future']);
  expect(problems({ birthDate: '2026-11-20' })).toEqual([]);
  expect(problems({ birthDate: null })).toEqual([]);
  expect(problems({ weights: [{ kg: 0, date: '2026-11-01' }] })).toEqual(['weight-none']);
  expect(problems({ weights: [{ kg: NaN, date: 'x' }] })).toEqual(['weight-none', 'weight-no-day']);
  const { store, place } = setUp();
  const bad = store.saveChild(null, { ...draft, nickname: '13800138000' });
  await expect(bad).rejects.toMatchObject({ name: 'Usage' });
  expect(await place.list('')).toEqual([]);
});

test('search finds words in titles and texts, in any width and case, and follows changes', async () => {
  const { store } = setUp();
  await store.keep(consultation('c1'));
  const answer = message('a1', 'q1', '可以用 ORS Ⅲ 补液');
  const other = { title: '腹泻', messages: [message('q1', null, '拉肚子'), answer] };
  await store.keep(consultation('c2', other));
  const ids = async (query: string) => (await store.search(query)).map(({ id }) => id).sort();
  expect(await ids('发烧')).toEqual(['c1']);
  expect(await ids('ｏｒｓ')).toEqual(['c2']);
  expect(await ids('水')).toEqual(['c1']);
  expect(await ids('补液 肚子')).toEqual(['c2']);
  expect(await ids('补液 发烧')).toEqual([]);
  expect(await ids('烧发')).toEqual([]);
  expect(await ids('  ')).toEqual([]);
  expect((await store.search('多喝'))[0]?.excerpt).toContain('多喝水');
  await store.remove('c1');
  expect(await ids('发烧')).toEqual([]);
  await store.restore('c1');
  await store.rename('c2', '发烧以后');
  expect(await ids('发烧')).toEqual(['c1', 'c2']);
});

test('the index forgets the pairs of what is taken out', () => {
  const index = new SearchIndex();
  index.put(consultation('c1'));
  index.put(consultation('c1', { title: '别的', messages: [] }));
  expect(index.find('发烧')).toEqual([]);
  expect(index.find('别的')).toHaveLength(1);
  index.drop('c1');
  expect(index.find('别的')).toEqual([]);
});

test('branches: the path to a leaf, siblings, and where a branch went on last', () => {
  const messages = [
    message('q1', null, '问'),
    message('a1', 'q1', '答一'),
    message('a2', 'q1', '答二'),
    message('q2', 'a1', '再问'),
    message('q3', null, '改问'),
    message('a3', 'q2', '再答'),
  ];
  expect(pathTo(messages, 'a3').map(({ id }) => id)).toEqual(['q1', 'a1', 'q2', 'a3']);
  expect(pathTo(messages, null)).toEqual([]);
  expect(pathTo(messages, 'none')).toEqual([]);
  const [first, answer] = messages;
  expect(first && siblingsOf(messages, first).map(({ id }) => id)).toEqual(['q1', 'q3']);
  expect(answer && siblingsOf(messages, answer).map(({ id }) => id)).toEqual(['a1', 'a2']);
  expect(newestLeaf(messages, 'a1')).toBe('a3');
  expect(newestLeaf(messages, 'q1')).toBe('a2');
  expect(newestLeaf(messages, 'a3')).toBe('a3');
});

test.each([
  [[message('a1', null, '答')], 'a1', 'an answer without a question'],
  [[message('q1', 'a9', '问')], 'q1', 'before its parent'],
  [[message('q1', null, '问'), message('q1', null, '问')], 'q1', 'twice'],
  [[message('q1', null, '问'), message('q2', 'q1', '问')], 'q2', 'same role'],
  [[message('q1', null, '问')], 'q2', 'not there'],
  [[message('q1', null, '问')], null, 'no branch'],
  [[message('q1', 'q1', '问')], 'q1', 'before its parent'],
])('a tree that is none is said to be so (%#)', (messages, leaf, fault) => {
  expect(treeFault(consultation('c1', { messages, leaf }))).toContain(fault);
  expect(treeFault(consultation('c1'))).toBeNull();
});

test('the first edition’s conversation is moved, once, with how its answers ended', async () => {
  const place = memory();
  await plant(place, firstEdition);
  const legacyMarks = () => ['', 'done', '', 'stopped'] as const;
  const store = new RecordStore(place, { legacyMarks });
  expect(await store.open()).toBe('open');
  const { entries } = await store.list();
  expect(entries).toHaveLength(1);
  expect(entries[0]).toMatchObject({
    task: 'medkqa',
    title: '新生儿黄疸一般多久消退？',
    updated: '2026-11-19T10:20:30.400Z',
  });
  const kept = await store.consultation(entries[0]?.id ?? '');
  expect(kept?.messages.map(({ role, text, state }) => [role, text, state])).toEqual([
    ['user', '新生儿黄疸一般多久消退？', 'done'],
    ['assistant', '多数在两周内消退。', 'done'],
    ['user', '需要晒太阳吗？', 'done'],
    ['assistant', '', 'stopped'],
  ]);
  expect(kept && treeFault(kept)).toBeNull();
  // A window of the first edition sees a newer schema there and writes nothing.
  expect(await place.get('medkqa')).toEqual({ schema: 2, moved: true });
  // The same record again, as from a backup of the browser's files, makes no second copy.
  await store.rename(kept?.id ?? '', '黄疸');
  await plant(place, firstEdition);
  const again = new RecordStore(place);
  await again.open();
  expect((await again.list()).entries.map(({ title }) => title)).toEqual(['黄疸']);
  expect(await place.get('medkqa')).toEqual({ schema: 2, moved: true });
});

test.each([
  ['no conversation', { schema: 1, turns: 'no' }],
  ['one without turns', { ...firstEdition.medkqa, turns: [] }],
])('%s of the first edition stops nothing', async (_, value) => {
  const place = memory();
  await plant(place, { medkqa: value });
  const store = new RecordStore(place);
  await store.open();
  expect((await store.list()).entries).toEqual([]);
});

test('a newer edition’s records are left alone, also by a window that was open before', async () => {
  const { place, store } = setUp();
  await store.keep(consultation('c1'));
  await plant(place, { meta: { schema: 3, anything: true } });
  const before = await place.list('');
  await expect(store.keep(consultation('c1', { leaf: 'q1' }))).rejects.toMatchObject({
    name: 'RecordsNewer',
  });
  const later = new RecordStore(place);
  expect(await later.open()).toBe('newer');
  expect((await later.list()).entries).toHaveLength(1);
  for (const write of [
    () => later.keep(consultation('c2')),
    () => later.saveChild(null, draft),
    () => later.remove('c1'),
    () => later.setPassphrase('passphrase'),
    () => later.wipe(),
  ]) {
    await expect(write()).rejects.toMatchObject({ name: 'RecordsNewer' });
  }
  expect(await place.list('')).toEqual(before);
});

test('a damaged record is counted and hides no other', async () => {
  const { place, store } = setUp();
  await store.keep(consultation('c1'));
  await store.keep(consultation('c2'));
  await plant(place, { 'index:c1': { schema: 2, revision: 'x', plain: { id: 'c1' } } });
  const { entries, damaged } = await store.list();
  expect(entries.map(({ id }) => id)).toEqual(['c2']);
  expect(damaged).toBe(1);
  await plant(place, { 'consult:c2': 'nonsense' });
  await expect(store.consultation('c2')).rejects.toMatchObject({ name: 'RecordDamaged' });
});

test('delete-all leaves nothing that was said, and another window does not bring it back', async () => {
  const { place, store } = setUp();
  await plant(place, firstEdition);
  const other = new RecordStore(place);
  await other.keep(consultation('c1'));
  await store.open();
  await store.saveChild(null, draft);
  await store.keepDraft('medkqa', '没发');
  await plant(place, { evidiag: { ...firstEdition.medkqa, task: 'evidiag' } });
  await store.wipe();
  const keys = (await place.list('')).map(([key]) => key).sort();
  expect(keys).toEqual(['medkqa', 'meta']);
  await expect(other.keep(consultation('c1'))).rejects.toMatchObject({ name: 'RecordsChanged' });
  expect((await place.list('')).map(([key]) => key).sort()).toEqual(keys);
  await store.keep(consultation('c9'));
  expect((await store.list()).entries.map(({ id }) => id)).toEqual(['c9']);
});

test('a clock that is set back makes nothing older than it was', async () => {
  const { store, wait } = setUp();
  await store.keep(consultation('c1'));
  wait(-20 * 365 * 24 * 3_600_000);
  await store.keep(consultation('c1', { title: '又说了一句' }));
  expect((await store.consultation('c1'))?.updated).toBe(NOW);
  await store.keep(consultation('c2', { created: '2006-11-25T08:00:00.000Z' }));
  const { entries } = await store.list();
  expect(entries.map(({ id }) => id)).toEqual(['c1', 'c2']);
  for (const { created, updated } of entries) expect(updated >= created).toBe(true);
});
