import { beforeEach, expect, it, vi } from 'vitest';
import { clearConversation, loadConversation, saveConversation } from './records.ts';

const kept = vi.hoisted(() => new Map<string, unknown>());
let refusal: DOMException | null = null;

/** The same contract as IndexedDB's: what goes in is copied, an update is one step. */
vi.mock('idb-keyval', () => ({
  createStore: () => 'conversations',
  get: (key: string) => (refusal ? Promise.reject(refusal) : Promise.resolve(kept.get(key))),
  update: (key: string, change: (old: unknown) => unknown) => {
    if (refusal) return Promise.reject(refusal);
    kept.set(key, structuredClone(change(kept.get(key))));
    return Promise.resolve();
  },
  del: (key: string) => Promise.resolve(void kept.delete(key)),
}));

const turns = [
  { role: 'user', text: '宝宝发烧38.5度' },
  { role: 'assistant', text: '多喝水。' },
] as const;

beforeEach(() => {
  kept.clear();
  refusal = null;
});

it('gives back what was kept, per task', async () => {
  expect(await saveConversation('medkqa', turns)).toBe(true);
  const found = await loadConversation('medkqa');
  expect(found?.turns).toEqual(turns);
  expect(found?.task).toBe('medkqa');
  expect(Math.abs(Date.parse(found?.updated ?? '') - Date.now())).toBeLessThan(60_000);
  expect(await loadConversation('evidiag')).toBeNull();
});

it('keeps nothing of a turn but role and text', async () => {
  await saveConversation('medkqa', [{ role: 'user', text: '咳嗽', state: 'done' } as never]);
  expect((await loadConversation('medkqa'))?.turns).toEqual([{ role: 'user', text: '咳嗽' }]);
});

it('leaves the record of a newer edition alone', async () => {
  const newer = { schema: 2, task: 'medkqa', branches: [] };
  kept.set('medkqa', newer);
  expect(await loadConversation('medkqa')).toBeNull();
  expect(await saveConversation('medkqa', turns)).toBe(false);
  expect(kept.get('medkqa')).toEqual(newer);
});

it('writes over a record that nobody can read', async () => {
  kept.set('medkqa', { schema: 1, turns: 'no' });
  expect(await loadConversation('medkqa')).toBeNull();
  expect(await saveConversation('medkqa', turns)).toBe(true);
  expect((await loadConversation('medkqa'))?.turns).toEqual(turns);
});

it('forgets on demand', async () => {
  await saveConversation('medkqa', turns);
  await clearConversation('medkqa');
  expect(await loadConversation('medkqa')).toBeNull();
});

it.each([
  ['QuotaExceededError', 'StorageFull'],
  ['SecurityError', 'StorageBlocked'],
  ['InvalidStateError', 'StorageBlocked'],
])('%s is %s', async (name, expected) => {
  refusal = new DOMException('no', name);
  await expect(saveConversation('medkqa', turns)).rejects.toMatchObject({ name: expected });
});
