import { render } from 'svelte/server';
import { beforeEach, expect, test, vi } from 'vitest';
import { aiLabel, type Child, type Entry, markdownOf } from '../../store/records.ts';
import { FakeEngine, type Script } from '../testing/fake-engine.ts';
import { FakeRecords } from '../testing/fake-records.ts';
import { FakeStorage } from '../testing/fake-storage.ts';
import Transcript from '../Transcript.svelte';
import { en } from '../words/en.ts';
import { zh } from '../words/zh.ts';
import { Workspace } from '../workspace.svelte.ts';
import ChildForm from './ChildForm.svelte';
import { groupsOf } from './groups.ts';
import HistoryPanel from './HistoryPanel.svelte';
import { IdleWatch } from './idle.ts';
import LockGuard from './LockGuard.svelte';
import RecordsScreen from './RecordsScreen.svelte';
import { fileName } from './save-file.ts';

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
  vi.stubGlobal('requestAnimationFrame', (run: () => void) => setTimeout(run, 0));
});

const PASS = '豆豆的口令';
const draft = {
  nickname: '豆豆',
  birthDate: null,
  sex: 'unknown' as const,
  weights: [],
  allergies: '',
  chronicIllness: '',
};

async function setUp(script: Script = {}, records = new FakeRecords(), languages = ['zh-CN']) {
  const engine = new FakeEngine(script);
  const folder = (): string => 'http://localhost/models/nano/';
  const workspace = new Workspace({ engine, records, folder, languages, english: en });
  await workspace.start();
  const ask = async (text: string): Promise<void> => {
    workspace.chat.draft = text;
    await workspace.send();
    await workspace.ledger.refresh();
  };
  return { workspace, ledger: workspace.ledger, records, ask };
}

const titles = (workspace: Workspace): string[] =>
  workspace.ledger.listing.entries.map(({ title }) => title);

test('what is asked is in the list, under the child that it is about', async () => {
  const { workspace, ledger, ask } = await setUp();
  const child = await ledger.saveChild(null, draft);
  await ask('没有归属');
  await workspace.newConsultation(child?.id ?? null);
  await ask('豆豆发烧');
  expect(titles(workspace)).toEqual(['豆豆发烧', '没有归属']);
  expect(ledger.groups.map((group) => group.child?.nickname ?? null)).toEqual(['豆豆', null]);
  await workspace.newConsultation(null);
  expect(workspace.chat.turns).toEqual([]);
});

test('a consultation of the list opens in its task, and goes on there', async () => {
  const { workspace, ledger, ask } = await setUp();
  await ask('知识');
  workspace.choose('evidiag');
  await ask('诊断');
  const entry = ledger.listing.entries.find(({ title }) => title === '知识');
  expect(await workspace.openConsultation(entry?.id ?? '')).toBe(true);
  expect(workspace.task).toBe('medkqa');
  await workspace.startAnew();
  expect(await workspace.openConsultation(entry?.id ?? '')).toBe(true);
  await ask('再问');
  expect(workspace.chat.questions).toEqual(['知识', '再问']);
  expect(ledger.listing.entries).toHaveLength(2);
  expect(await workspace.openConsultation('none')).toBe(false);
});

test('deleting what is open leaves a new one; undo brings it back, open', async () => {
  const { workspace, ledger, ask } = await setUp();
  await ask('要删的');
  const id = workspace.chat.thread.id;
  await workspace.removeConsultation(id, '要删的');
  expect(workspace.chat.turns).toEqual([]);
  expect(titles(workspace)).toEqual([]);
  expect(ledger.removed).toEqual({ kind: 'consultation', id, name: '要删的' });
  await workspace.undoRemoval();
  expect(workspace.chat.questions).toEqual(['要删的']);
  expect(titles(workspace)).toEqual(['要删的']);
  expect(ledger.removed).toBeNull();
});

test('search narrows the list while it is typed, and follows what is written', async () => {
  const { workspace, ledger, ask } = await setUp({ answers: [['多喝水'], ['用润肤霜']] });
  await ask('发烧');
  await workspace.startAnew();
  await ask('湿疹');
  await ledger.search('润肤');
  expect(ledger.groups.flatMap(({ entries }) => entries.map(({ title }) => title))).toEqual([
    '湿疹',
  ]);
  expect(ledger.hits?.[0]?.excerpt).toContain('润肤霜');
  await ledger.search('');
  expect(ledger.groups[0]?.entries).toHaveLength(2);
});

test('locking takes every word off the page; unlocking brings it back', async () => {
  const { workspace, ledger, ask } = await setUp();
  await ask('秘密的问题');
  workspace.chat.draft = '秘密的草稿';
  workspace.chat.keepDraft();
  expect(await ledger.setPassphrase(PASS)).toBe(true);
  expect(
    [...Array(localStorage.length).keys()]
      .map((i) => localStorage.getItem(localStorage.key(i) ?? ''))
      .join(),
  ).not.toContain('秘密');
  await ledger.lock();
  expect(ledger.state).toBe('locked');
  expect([workspace.chat.turns, workspace.chat.draft, titles(workspace)]).toEqual([[], '', []]);
  const props = { workspace, asks: true };
  expect(render(LockGuard, { props }).body).toContain(zh.records.passphrase.lockedText);
  expect(render(HistoryPanel, { props: { workspace } }).body).not.toContain('秘密');
  expect(await ledger.unlock('别的口令')).toBe(false);
  expect(ledger.trouble?.name).toBe('WrongPassphrase');
  expect(await ledger.unlock(PASS)).toBe(true);
  expect(workspace.chat.questions).toEqual(['秘密的问题']);
  expect(workspace.chat.draft).toBe('秘密的草稿');
  expect(titles(workspace)).toEqual(['秘密的问题']);
  expect(render(LockGuard, { props }).body).not.toContain('data-testid="locked"');
});

test('delete-all leaves nothing on the page, and nothing comes back', async () => {
  const { workspace, ledger, records, ask } = await setUp();
  await ledger.saveChild(null, draft);
  await ask('问');
  await ledger.setPassphrase(PASS);
  expect(await ledger.wipe()).toBe(true);
  expect(workspace.chat.turns).toEqual([]);
  expect([ledger.isEncrypted, ledger.listing.children, titles(workspace)]).toEqual([false, [], []]);
  expect((await records.everything()).consultations).toEqual([]);
  const keys = (await records.place.list('')).map(([key]) => key);
  expect(keys).toEqual(['meta']);
});

test('an export comes back through the dry run; a file that is none changes nothing', async () => {
  const { ledger, ask } = await setUp();
  await ledger.saveChild(null, draft);
  await ask('问');
  const text = (await ledger.exportAll('1.2.3')) ?? '';
  expect(text).toContain('"version": "1.2.3"');
  const other = await setUp({}, new FakeRecords());
  const plan = await other.ledger.plan(new Blob([text]));
  expect(plan).toMatchObject({ added: 2, same: 0, beside: 0 });
  expect(titles(other.workspace)).toEqual([]);
  expect(plan && (await other.ledger.add(plan))).toBe(true);
  expect(titles(other.workspace)).toEqual(['问']);
  expect(await other.ledger.plan(new Blob(['{}']))).toBeNull();
  expect(other.ledger.trouble?.name).toBe('BadImport');
});

test('groups: whoever was talked about last is first, nobody last, a deleted child is nobody', () => {
  const entry = (id: string, child: string | null) => ({ id, child }) as Entry;
  const child = (id: string) => ({ id, nickname: id }) as Child;
  const entries = [entry('1', null), entry('2', 'b'), entry('3', 'gone'), entry('4', 'a')];
  const listing = { entries, children: [child('a'), child('b'), child('c')], damaged: 0 };
  const names = (hits: readonly { id: string; excerpt: string }[] | null) =>
    groupsOf(listing, hits).map((group) => [
      group.child?.nickname ?? null,
      group.entries.map(({ id }) => id).join(''),
    ]);
  expect(names(null)).toEqual([
    ['b', '2'],
    ['a', '4'],
    ['c', ''],
    [null, '13'],
  ]);
  expect(names([{ id: '4', excerpt: '' }])).toEqual([['a', '4']]);
  expect(names([])).toEqual([]);
});

test('the records are locked after so many minutes without anybody, whatever is done to the clock', () => {
  let wall = Date.parse('2026-11-21T08:00:00.000Z');
  let steady = 0;
  const idle = new IdleWatch(
    () => wall,
    () => steady,
  );
  const pass = (ms: number): void => {
    wall += ms;
    steady += ms;
  };
  pass(5 * 60_000 - 1);
  expect(idle.isOver(5)).toBe(false);
  pass(1);
  expect([idle.isOver(5), idle.isOver(0), idle.isOver(15)]).toEqual([true, false, false]);
  idle.touch();
  wall -= 365 * 24 * 3_600_000; // set back a year
  pass(5 * 60_000 - 1);
  expect(idle.isOver(5)).toBe(false);
  pass(1);
  expect(idle.isOver(5)).toBe(true);
  idle.touch();
  wall += 5 * 60_000; // the computer slept, and its steady clock with it
  expect(idle.isOver(5)).toBe(true);
});

test.each([
  ['宝宝发烧 38.5/度?', '宝宝发烧 385度'],
  ['../../etc', 'etc'],
  ['<b>', 'b'],
  ['？', 'consultation'],
])('a file is named after its consultation: %j', (title, name) => {
  expect(fileName(title)).toBe(name);
});

test.each([
  ['zh-CN', zh],
  ['en-US', en],
] as const)('%s: the panels have their words, labels and no style inline', async (tag, words) => {
  const { workspace, ledger, ask } = await setUp({}, new FakeRecords(), [tag]);
  await ledger.saveChild(null, draft);
  await ask('<img src=x onerror=alert(1)>');
  const { body: history } = render(HistoryPanel, { props: { workspace } });
  for (const text of [words.records.list, words.records.new, words.records.none, '豆豆']) {
    expect(history).toContain(text);
  }
  expect(history).not.toContain('<img');
  expect(history).toContain('aria-current="true"');
  const { body: screen } = render(RecordsScreen, { props: { workspace } });
  for (const part of ['export', 'import-file', 'passphrase-set', 'wipe-all']) {
    expect(screen).toContain(`data-testid="${part}"`);
  }
  expect(screen).toContain(words.records.passphrase.off);
  const onclose = () => undefined;
  const { body: form } = render(ChildForm, { props: { workspace, child: null, onclose } });
  expect(form).toContain(words.records.child.nicknameHelp);
  for (const body of [history, screen, form]) {
    expect(body).not.toMatch(/ style="| onclick="/);
    // Every box has a name: a label around it, one that points to it, or one of its own.
    for (const [box] of body.matchAll(/<(?:input|select|textarea)[^>]*>/g)) {
      const id = / id="([^"]+)"/.exec(box)?.[1];
      const around =
        body.lastIndexOf('<label', body.indexOf(box)) >
        body.lastIndexOf('</label>', body.indexOf(box));
      const named = around || box.includes('aria-label') || body.includes(`for="${id ?? ''}"`);
      expect(named, box).toBe(true);
    }
  }
});

test('a page that was killed shows what it had kept as interrupted, with two ways on', async () => {
  const { workspace, records, ask } = await setUp({ answers: [['半句']] });
  await ask('问');
  const kept = structuredClone(records.saved.at(-1));
  if (!kept?.messages[1]) throw new Error('nothing was kept');
  kept.messages[1].state = 'partial';
  await workspace.chat.resume(kept);
  const { body } = render(Transcript, { props: { workspace, onexample: () => undefined } });
  expect(body).toContain('data-state="partial"');
  expect(body).toContain(zh.records.interrupted);
  for (const part of ['go-on', 'regenerate', 'edit-question', 'feedback-bad']) {
    expect(body).toContain(`data-testid="${part}"`);
  }
  // On paper, the label stands at both ends.
  expect(body.split(aiLabel.zh)).toHaveLength(3);
});

test('Markdown of a consultation speaks the page’s language', async () => {
  const { workspace, ledger, ask } = await setUp();
  await ask('问');
  const id = workspace.chat.thread.id;
  const text = await ledger.markdown(id, zh.records.markdownWords, '知识问答');
  expect(text).toContain('## 提问');
  expect(text).toContain('知识问答');
  const read = await ledger.read(id);
  expect(text).toBe(read && markdownOf(read, null, zh.records.markdownWords, '知识问答'));
});
