import { expect, test } from 'vitest';
import { failureName } from '../../failure.ts';
import type { MemoryPlace, Place } from './place.ts';
import type { Consultation } from './shapes.ts';
import { RecordStore } from './store.ts';
import {
  consultation,
  FaultyPlace,
  firstEdition,
  memory,
  message,
  plant,
  QUICK,
} from './testing.ts';
import { treeFault } from './tree.ts';

const PASSES = ['第一个口令', '第二个口令'] as const;

/** What the person was told is kept: the newest version of each consultation, and the child's name. */
interface Told {
  readonly texts: Map<string, string>;
  readonly titles: Map<string, string[]>;
}

/** A day's work. Every step may fail by itself; `told` gets what succeeded. */
async function work(place: Place, told: Told): Promise<void> {
  const store = new RecordStore(place, QUICK);
  const step = async (run: () => Promise<unknown>): Promise<boolean> => {
    try {
      await run();
      return true;
    } catch (error) {
      expect(['StorageFull', 'RecordsLocked', 'WrongPassphrase', 'RecordsChanged']).toContain(
        failureName(error),
      );
      return false;
    }
  };
  const keep = async (id: string, text: string, state: 'partial' | 'done' = 'done') => {
    const messages: Consultation['messages'] = [
      message('q1', null, '问'),
      message('a1', 'q1', text, { state }),
    ];
    if (await step(() => store.keep(consultation(id, { messages })))) told.texts.set(id, text);
  };
  await step(() => store.open());
  const name = { nickname: '豆豆', birthDate: null, sex: 'male' as const };
  const rest = { weights: [], allergies: '', chronicIllness: '' };
  await step(() => store.saveChild(null, { ...name, ...rest }));
  await keep('c1', '一', 'partial');
  await keep('c1', '一二', 'partial');
  await keep('c1', '一二三');
  await keep('c2', '甲');
  await step(() => store.setPassphrase(PASSES[0]));
  await keep('c3', '乙');
  const titles = ['宝宝发烧', '改名'];
  const isThere = told.texts.has('c2');
  const isRenamed = (await step(() => store.rename('c2', '改名'))) && isThere;
  told.titles.set('c2', isRenamed ? ['改名'] : titles);
  await step(() => store.remove('c3'));
  await step(() => store.restore('c3'));
  await step(() => store.changePassphrase(PASSES[0], PASSES[1]));
  await keep('c2', '甲乙');
  if (!(await step(() => store.removePassphrase(PASSES[1])))) {
    await step(() => store.removePassphrase(PASSES[0]));
  }
  await keep('c4', '丙');
}

async function opened(place: Place): Promise<RecordStore> {
  const store = new RecordStore(place, QUICK);
  if ((await store.open()) === 'locked') {
    for (const passphrase of PASSES) {
      if (store.state === 'open') break;
      await store.unlock(passphrase).catch((error: unknown) => {
        expect(failureName(error)).toBe('WrongPassphrase');
      });
    }
  }
  expect(store.state).toBe('open');
  return store;
}

async function expectWhole(place: MemoryPlace, told: Told): Promise<void> {
  const store = await opened(place);
  const { entries, damaged } = await store.list();
  expect(damaged).toBe(0);
  const keys = (await place.list('')).map(([key]) => key);
  const idsOf = (kind: string) =>
    keys.filter((key) => key.startsWith(kind)).map((key) => key.slice(kind.length));
  expect(idsOf('index:')).toEqual(idsOf('consult:'));
  for (const entry of entries) {
    const found = await store.consultation(entry.id);
    expect(found && treeFault(found)).toBeNull();
    expect(found).toMatchObject({ title: entry.title, child: entry.child, updated: entry.updated });
  }
  for (const [id, text] of told.texts) {
    expect((await store.consultation(id))?.messages[1]?.text.startsWith(text), id).toBe(true);
  }
  for (const [id, titles] of told.titles) {
    const found = await store.consultation(id);
    if (found) expect(titles).toContain(found.title);
  }
  // Never half of the one and half of the other, once it is open again.
  const forms = new Set<boolean>();
  for (const [key, value] of await place.list('')) {
    if (/^(?:child|consult|index):/.test(key)) forms.add('box' in (value as object));
  }
  expect(forms.size).toBeLessThanOrEqual(1);
  if (forms.size === 1) expect(forms.has(true)).toBe(store.isEncrypted);
  // What the first edition kept is there once.
  const moved = (await store.everything()).consultations.filter(({ id }) => id.startsWith('v1-'));
  expect(moved.map(({ messages }) => messages[0]?.text)).toEqual(['新生儿黄疸一般多久消退？']);
  // Opening it again changes nothing.
  const before = await place.list('');
  await opened(place);
  expect(await place.list('')).toEqual(before);
}

const newTold = (): Told => ({ texts: new Map(), titles: new Map() });

test.each([
  ['fails once', false],
  ['is killed', true],
])(
  'whichever operation %s, nothing that was said to be kept is lost',
  async (_, dies) => {
    const healthy = new FaultyPlace(await legacyPlace(), Infinity, dies);
    const told = newTold();
    await work(healthy, told);
    expect([...told.texts.keys()]).toEqual(['c1', 'c2', 'c3', 'c4']);
    const { operations } = healthy;
    expect(operations).toBeGreaterThan(50);
    for (let n = 0; n < operations; n += 1) {
      const place = await legacyPlace();
      const partly = newTold();
      await work(new FaultyPlace(place, n, dies), partly);
      try {
        await expectWhole(place, partly);
      } catch (error) {
        throw new Error(`after a fault at operation ${n}`, { cause: error });
      }
    }
  },
  240_000,
);

async function legacyPlace(): Promise<MemoryPlace> {
  const place = memory();
  await plant(place, firstEdition);
  return place;
}
