import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Failure } from '../failure.ts';
import type { GenerateEvent, LoadProgress } from '../worker/api.ts';
import { FakeStorage } from './testing/fake-storage.ts';
import { type Heard, hearAnswer, loadStep, type Step, Watch } from './watch.svelte.ts';

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
  vi.useFakeTimers();
});
afterEach(() => void vi.useRealTimers());

/** A watch over work that says and ends what a test wants. */
function setUp() {
  const clock = { ahead: 0, isHidden: false };
  const onstall = vi.fn();
  const watch = new Watch(onstall, {
    now: () => performance.now() + clock.ahead,
    isHidden: () => clock.isHidden,
  });
  const begin = (kind: 'load' | 'answer') => {
    let heard: Heard = () => undefined;
    let end: () => void = () => undefined;
    let fail: (error: Error) => void = () => undefined;
    const done = watch.during(kind, (tell) => {
      heard = tell;
      return new Promise<void>((resolve, reject) => {
        end = resolve;
        fail = reject;
      });
    });
    return { heard: (step: Step, ms?: number) => heard(step, ms), end, fail, done };
  };
  const pass = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000);
  return { watch, clock, onstall, begin, pass };
}

test('an answer that does not move for a minute is told of, once, and progress takes the word back', async () => {
  const { watch, onstall, begin, pass } = setUp();
  const answer = begin('answer');
  await pass(59);
  expect(watch.stall).toBeNull();
  await pass(2);
  expect(watch.stall).toEqual({ kind: 'answer', seconds: 60 });
  const first = watch.stall;
  await pass(30);
  expect(watch.stall).toBe(first);
  expect(watch.seconds).toBe(91);
  expect(onstall).toHaveBeenCalledTimes(1);
  answer.heard('answer');
  expect(watch.stall).toBeNull();
  answer.end();
  await answer.done;
  expect(vi.getTimerCount()).toBe(0);
});

test('work that goes on slowly, but goes on, is left in peace', async () => {
  const { watch, begin, pass } = setUp();
  const answer = begin('answer');
  for (let i = 0; i < 30; i += 1) {
    await pass(55);
    expect(watch.stall).toBeNull();
    answer.heard('answer');
  }
});

test('a load has two minutes for a step, and ten where another window may have the package, which say nothing of the device', async () => {
  const { watch, begin, pass } = setUp();
  const load = begin('load');
  await pass(30);
  load.heard('wait');
  await pass(599);
  expect(watch.stall).toBeNull();
  await pass(2);
  expect(watch.stall).not.toBeNull();
  load.heard('load');
  await pass(119);
  expect(watch.stall).toBeNull();
  await pass(2);
  expect(watch.stall?.kind).toBe('load');
});

test('what this device has needed before counts, in the visit and in the next one', async () => {
  const { watch, begin, pass } = setUp();
  const load = begin('load');
  await pass(100);
  load.heard('load');
  load.end();
  await load.done;
  const answer = begin('answer');
  await pass(299);
  expect(watch.stall).toBeNull();
  await pass(3);
  expect(watch.stall).not.toBeNull();
  answer.end();
  await answer.done;
  expect(watch.stall).toBeNull();

  const next = setUp();
  const again = next.begin('load');
  await next.pass(290);
  expect(next.watch.stall).toBeNull();
  again.end();
  await again.done;
});

test('a load that fails says nothing about the device, and a number that is none is none', async () => {
  const { begin, pass } = setUp();
  const load = begin('load');
  await pass(100);
  load.heard('load');
  load.fail(new Failure('WrongNumbers', 'no'));
  await expect(load.done).rejects.toThrow('no');
  localStorage.setItem('pediatricsgpt.silence', 'nonsense');
  const next = setUp();
  next.begin('load');
  await next.pass(121);
  expect(next.watch.stall).not.toBeNull();
});

test('an expected wait is waited for, three times over, but not for ever', async () => {
  const { watch, begin, pass } = setUp();
  const answer = begin('answer');
  answer.heard('answer', 100_000);
  await pass(299);
  expect(watch.stall).toBeNull();
  await pass(3);
  expect(watch.stall).not.toBeNull();
  answer.heard('answer', 1e9);
  await pass(599);
  expect(watch.stall).toBeNull();
  await pass(3);
  expect(watch.stall).not.toBeNull();
});

test('a computer that slept, a page that was held, and a page out of sight accuse nobody', async () => {
  const { watch, clock, begin, pass } = setUp();
  begin('answer');
  await pass(50);
  clock.ahead += 8 * 3600 * 1000;
  await pass(50);
  expect(watch.stall).toBeNull();
  clock.isHidden = true;
  await pass(600);
  expect(watch.stall).toBeNull();
  clock.isHidden = false;
  await pass(59);
  expect(watch.stall).toBeNull();
  await pass(2);
  expect(watch.stall).not.toBeNull();
  // What was said before a sleep is not said after it.
  clock.ahead += 60_000;
  await pass(1);
  expect(watch.stall).toBeNull();
});

test('who waits is asked again when the silence is twice as long', async () => {
  const { watch, begin, pass } = setUp();
  const answer = begin('answer');
  await pass(61);
  watch.wait();
  expect(watch.stall).toBeNull();
  await pass(58);
  expect(watch.stall).toBeNull();
  await pass(3);
  expect(watch.stall).toEqual({ kind: 'answer', seconds: 122 });
  // It went well, so this device may need so long.
  answer.heard('answer');
  await pass(364);
  expect(watch.stall).toBeNull();
  await pass(3);
  expect(watch.stall).not.toBeNull();
});

test('work that was given up for other work says nothing more', async () => {
  const { watch, begin, pass } = setUp();
  const hung = begin('load');
  await pass(130);
  expect(watch.stall).not.toBeNull();
  const next = begin('load');
  expect(watch.stall).toBeNull();
  hung.fail(new Failure('WorkerHung', 'ended'));
  await expect(hung.done).rejects.toThrow();
  await pass(130);
  expect(watch.stall?.kind).toBe('load');
  next.end();
  await next.done;
  expect(watch.stall).toBeNull();
});

test('the steps of a load and of an answer', () => {
  const step = (phase: LoadProgress['phase'], file: string | null) =>
    loadStep({ phase, file, bytesDone: 1, bytesTotal: 1, network: false });
  expect(step('manifest', 'manifest.json')).toBe('wait');
  expect(step('manifest', null)).toBe('load');
  expect(step('check', 'shard-00000.bin')).toBe('load');
  const heard = (event: GenerateEvent) => {
    const hear = vi.fn();
    hearAnswer(hear, event);
    return hear.mock.calls[0] as unknown[];
  };
  const prefill = { kind: 'prefill', total: 64, remainingMs: 5000 } as const;
  expect(heard({ ...prefill, done: 0 })).toEqual(['answer', 5000]);
  expect(heard({ ...prefill, done: 0, remainingMs: null })).toEqual(['answer', 0]);
  expect(heard({ ...prefill, done: 32 })).toEqual(['answer', 0]);
  expect(heard({ kind: 'recovery', because: 'DeviceLost' })).toEqual(['load']);
  expect(heard({ kind: 'piece', text: '好', outputTokens: 1 })).toEqual(['answer', 0]);
});
