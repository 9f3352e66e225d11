import { beforeEach, expect, test, vi } from 'vitest';
import { Risk } from './risk.ts';
import { FakeLocks, marks } from './testing/fake-locks.ts';
import { FakeStorage } from './testing/fake-storage.ts';

let locks: FakeLocks;

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
  locks = new FakeLocks();
});

/** A window of this browser. */
function open() {
  const risk = new Risk(() => locks);
  const page = new EventTarget();
  const before = new Set(locks.names);
  risk.follow(page);
  const own = locks.names.find((name) => !before.has(name)) ?? '';
  return {
    risk,
    leave: () => page.dispatchEvent(new Event('pagehide')),
    kill: () => locks.free(own),
  };
}

test('a window that lives is not taken for a dead one, and keeps its mark', async () => {
  const first = open();
  first.risk.enter('answer');
  const second = open();
  expect(await second.risk.death()).toBeNull();
  expect(marks()).toEqual(['answer usual']);
  // Nor does a window find itself.
  expect(await first.risk.death()).toBeNull();
  first.kill();
  expect(await second.risk.death()).toEqual({ phase: 'answer', care: 'usual' });
  expect(marks()).toEqual([]);
  expect(await second.risk.death()).toBeNull();
});

test('two windows have a mark each', async () => {
  const [first, second] = [open(), open()];
  const over = first.risk.enter('load');
  second.risk.enter('compare');
  over();
  expect(marks()).toEqual(['compare usual']);
  second.kill();
  expect(await first.risk.death()).toEqual({ phase: 'compare', care: 'usual' });
});

test('the most careful of several dead windows counts, and all are forgotten', async () => {
  for (const care of ['usual', 'careful', 'usual'] as const) {
    const { risk, kill } = open();
    risk.care = care;
    risk.enter('load');
    kill();
  }
  expect(await open().risk.death()).toEqual({ phase: 'load', care: 'careful' });
  expect(marks()).toEqual([]);
});

test('the mark is that of what began last and is not over', () => {
  const { risk } = open();
  const answered = risk.enter('answer');
  const loaded = risk.enter('load');
  expect(marks()).toEqual(['load usual']);
  answered();
  expect(marks()).toEqual(['load usual']);
  loaded();
  expect(marks()).toEqual([]);
});

test('leaving the page takes the mark away', async () => {
  const { risk, leave, kill } = open();
  risk.enter('answer');
  leave();
  kill();
  expect(await open().risk.death()).toBeNull();
});

test('no mark is written before the lock is held, nor where there are no locks', async () => {
  let grant = (): void => undefined;
  const request = (_name: string, work: () => Promise<void>) => {
    grant = () => void work();
    return new Promise(() => undefined);
  };
  const waiting = new Risk(() => ({ request, query: () => locks.query() }));
  waiting.enter('answer');
  expect(marks()).toEqual([]);
  grant();
  expect(marks()).toEqual(['answer usual']);
  localStorage.clear();
  const without = new Risk(() => undefined);
  without.enter('answer');
  expect(marks()).toEqual([]);
  expect(await without.death()).toBeNull();
});

test('what the edition before left counts, and what is no mark does not', async () => {
  localStorage.setItem('pediatricsgpt.risk', 'answer');
  expect(await open().risk.death()).toEqual({ phase: 'answer', care: 'usual' });
  localStorage.setItem('pediatricsgpt.risk.x', 'nonsense');
  localStorage.setItem('pediatricsgpt.risk.y', 'load nonsense');
  expect(await open().risk.death()).toBeNull();
  expect(marks()).toEqual([]);
});
