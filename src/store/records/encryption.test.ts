import { expect, test } from 'vitest';
import { newLock, openLock, seal, unseal } from './crypto.ts';
import { MemoryPlace, type Place } from './place.ts';
import { RecordStore } from './store.ts';
import { consultation, firstEdition, memory, message, plant, QUICK, rawText } from './testing.ts';

const PASS = '豆豆的口令 1';
const secret = '嘴唇起泡的秘密';

const child = {
  nickname: '豆豆秘密',
  birthDate: null,
  sex: 'unknown' as const,
  weights: [],
  allergies: '青霉素秘密',
  chronicIllness: '',
};

/** Two consultations, a child and a draft, all with words that can be looked for. */
async function filled(place: Place = memory()) {
  const store = new RecordStore(place, QUICK);
  await store.saveChild(null, child);
  const said = { title: '标题秘密', messages: [message('q1', null, secret)], leaf: 'q1' };
  await store.keep(consultation('c1', said));
  await store.keep(consultation('c2', said));
  await store.keepDraft('medkqa', '草稿秘密');
  return { place, store };
}

async function reopened(place: Place, passphrase = PASS) {
  const store = new RecordStore(place, QUICK);
  expect(await store.open()).toBe('locked');
  await store.unlock(passphrase);
  return store;
}

test('nothing that was typed can be read in the store, and all of it with the passphrase', async () => {
  const { place, store } = await filled();
  expect(await rawText(place)).toContain('秘密');
  await store.setPassphrase(PASS);
  await store.keep(consultation('c3', { title: '后来的秘密' }));
  await store.rename('c1', '新标题秘密');
  const raw = await rawText(place);
  for (const words of ['秘密', '豆豆', '青霉素', PASS, '多喝水', 'medkqa"', 'nickname']) {
    expect(raw, words).not.toContain(words);
  }
  const later = await reopened(place);
  expect((await later.consultation('c1'))?.messages[0]?.text).toBe(secret);
  expect((await later.list()).entries.map(({ title }) => title).sort()).toEqual(
    ['后来的秘密', '新标题秘密', '标题秘密'].sort(),
  );
  expect((await later.list()).children[0]?.nickname).toBe('豆豆秘密');
  expect(await later.draft('medkqa')).toBe('草稿秘密');
  expect(await later.search('嘴唇')).toHaveLength(2);
});

test('the same words are never the same bytes, and no nonce comes twice', async () => {
  const { place, store } = await filled();
  await store.setPassphrase(PASS);
  for (let i = 0; i < 20; i += 1) await store.rename('c1', '同一个标题');
  const nonces = new Set<string>();
  let records = 0;
  for (const [, value] of await place.list('')) {
    const { box } = value as { box?: { nonce: Uint8Array } };
    if (!box) continue;
    nonces.add(box.nonce.join());
    records += 1;
  }
  expect(records).toBe(6);
  expect(nonces.size).toBe(records);
});

test('locked, nothing is read or written; a wrong passphrase is named and changes nothing', async () => {
  const { place, store } = await filled();
  await store.setPassphrase(PASS);
  store.lock();
  expect(store.state).toBe('locked');
  for (const work of [
    () => store.list(),
    () => store.consultation('c1'),
    () => store.search('秘密'),
    () => store.everything(),
    () => store.keep(consultation('c9')),
    () => store.keepDraft('medkqa', 'x'),
    () => store.saveChild(null, child),
  ]) {
    await expect(work()).rejects.toMatchObject({ name: 'RecordsLocked' });
  }
  const before = await place.list('');
  await expect(store.unlock('豆豆的口令 2')).rejects.toMatchObject({ name: 'WrongPassphrase' });
  await expect(store.changePassphrase('x', 'y')).rejects.toMatchObject({ name: 'WrongPassphrase' });
  await expect(store.removePassphrase('x')).rejects.toMatchObject({ name: 'WrongPassphrase' });
  expect(await place.list('')).toEqual(before);
  expect(store.state).toBe('locked');
  await store.unlock(PASS.normalize('NFD').replace('1', '１')); // full width: the same after NFKC
  expect((await store.list()).entries).toHaveLength(2);
});

test('another passphrase wraps the same key: no record changes', async () => {
  const { place, store } = await filled();
  await store.setPassphrase(PASS);
  const records = (await place.list('')).filter(([key]) => key !== 'meta');
  await store.changePassphrase(PASS, '另一个口令');
  expect((await place.list('')).filter(([key]) => key !== 'meta')).toEqual(records);
  const later = await reopened(place, '另一个口令');
  expect((await later.list()).entries).toHaveLength(2);
  await expect(new RecordStore(place).open()).resolves.toBe('locked');
  await expect(later.changePassphrase(PASS, 'x')).rejects.toMatchObject({
    name: 'WrongPassphrase',
  });
});

test('turned off, everything is readable again and there is no lock', async () => {
  const { place, store } = await filled();
  await store.setPassphrase(PASS);
  await store.removePassphrase(PASS);
  expect(await rawText(place)).toContain(secret);
  const later = new RecordStore(place);
  expect(await later.open()).toBe('open');
  expect((await later.everything()).consultations).toHaveLength(2);
  expect(await rawText(place)).not.toContain('PBKDF2');
});

test('an altered byte is named, wherever it is, and costs this record only', async () => {
  const { place, store } = await filled();
  await store.setPassphrase(PASS);
  const stored = await place.get('consult:c1');
  const { box } = stored as { box: { nonce: Uint8Array; data: Uint8Array } };
  for (const part of ['nonce', 'data'] as const) {
    for (const at of [0, box[part].length - 1]) {
      const altered = structuredClone(stored) as { box: typeof box };
      altered.box[part][at] = (altered.box[part][at] ?? 0) ^ 1;
      await plant(place, { 'consult:c1': altered });
      await expect(store.consultation('c1')).rejects.toMatchObject({ name: 'RecordDamaged' });
    }
  }
  expect(await store.consultation('c2')).not.toBeNull();
  expect(await store.everything()).toMatchObject({ damaged: 1 });
});

test('records that change places are refused, and so is one that is not encrypted', async () => {
  const { place, store } = await filled();
  await store.setPassphrase(PASS);
  const [one, two] = [await place.get('consult:c1'), await place.get('consult:c2')];
  await plant(place, { 'consult:c1': two, 'consult:c2': one });
  for (const id of ['c1', 'c2']) {
    await expect(store.consultation(id)).rejects.toMatchObject({ name: 'RecordDamaged' });
  }
  const plain = { schema: 2, revision: 'r', plain: consultation('c1') };
  await plant(place, { 'consult:c1': plain });
  await expect(store.consultation('c1')).rejects.toMatchObject({ name: 'RecordDamaged' });
});

test('a record sealed for another schema does not open', async () => {
  const { key } = await newLock(PASS, QUICK.rounds);
  const box = await seal(key, 'consult:c1', 2, { text: secret });
  expect(await unseal(key, 'consult:c1', 2, box)).toEqual({ text: secret });
  await expect(unseal(key, 'consult:c1', 3, box)).rejects.toMatchObject({ name: 'RecordDamaged' });
  await expect(unseal(key, 'consult:c2', 2, box)).rejects.toMatchObject({ name: 'RecordDamaged' });
});

test('the data key cannot be read back, and weakened parameters do not open it', async () => {
  const { lock, key } = await newLock(PASS, QUICK.rounds);
  expect(key.extractable).toBe(false);
  await expect(crypto.subtle.exportKey('raw', key)).rejects.toThrow();
  const fewer = { ...lock, rounds: lock.rounds - 1 };
  await expect(openLock(fewer, PASS)).rejects.toMatchObject({ name: 'WrongPassphrase' });
});

test.each([
  ['rounds', 1],
  ['rounds', 2 ** 31],
  ['rounds', 150_000.5],
  ['salt', new Uint8Array(0)],
  ['salt', new Uint8Array(1 << 20)],
  ['nonce', new Uint8Array(11)],
  ['wrapped', new Uint8Array(47)],
  ['kdf', 'MD5'],
])('a stored lock with a wrong %s is refused before it is used (%#)', async (field, value) => {
  const { place, store } = await filled();
  await store.setPassphrase(PASS);
  const meta = (await place.get('meta')) as { lock: object };
  await plant(place, { meta: { ...meta, lock: { ...meta.lock, [field]: value } } });
  await expect(new RecordStore(place).open()).rejects.toMatchObject({ name: 'RecordDamaged' });
});

test('a new passphrase costs the rounds that are asked for today, and says so beside the key', async () => {
  const place = memory();
  const store = new RecordStore(place);
  await store.setPassphrase(PASS);
  expect(await place.get('meta')).toMatchObject({
    lock: { kdf: 'PBKDF2-SHA-256', rounds: 600_000 },
  });
});

test('delete-all drops the wrapped key before anything else', async () => {
  class Watched extends MemoryPlace {
    readonly locks: boolean[] = [];
    override async change(...args: Parameters<MemoryPlace['change']>): Promise<void> {
      await super.change(...args);
      const meta = (await this.get('meta')) as { lock: unknown } | undefined;
      this.locks.push(meta?.lock !== null && meta !== undefined);
    }
  }
  const place = new Watched();
  const { store } = await filled(place);
  await store.setPassphrase(PASS);
  place.locks.length = 0;
  await store.wipe();
  expect(place.locks.length).toBeGreaterThan(2);
  expect(place.locks).not.toContain(true);
  expect(store.state).toBe('open');
});

test('another window that is open follows: it asks for the passphrase, then goes on', async () => {
  const { place, store } = await filled();
  const other = new RecordStore(place, QUICK);
  await other.list();
  await store.setPassphrase(PASS);
  await expect(other.keep(consultation('c5'))).rejects.toMatchObject({ name: 'RecordsLocked' });
  await expect(other.list()).rejects.toMatchObject({ name: 'RecordsLocked' });
  await other.unlock(PASS);
  await other.keep(consultation('c5'));
  expect(await store.consultation('c5')).not.toBeNull();
  await store.changePassphrase(PASS, '另一个口令');
  await other.rename('c5', '还能写'); // the same data key
  await store.removePassphrase('另一个口令');
  await other.rename('c5', '明文');
  expect((await store.consultation('c5'))?.title).toBe('明文');
  expect(await rawText(place)).toContain('明文');
});

test('what the first edition kept is encrypted when it is found behind a passphrase', async () => {
  const { place, store } = await filled();
  await store.setPassphrase(PASS);
  await plant(place, firstEdition);
  const later = await reopened(place);
  expect((await later.list()).entries).toHaveLength(3);
  expect(await rawText(place)).not.toContain('黄疸');
});
