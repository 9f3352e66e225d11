import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { EngineLock } from './engine-lock.ts';

/** The browser's lock manager as far as one exclusive lock needs it. */
class FakeLocks {
  #holder: { readonly end: (error?: Error) => void } | null = null;
  readonly #waiting: (() => void)[] = [];

  request(_name: string, options: LockOptions, work: () => Promise<void>): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const start = (): void => {
        const holder = {
          end: (error?: Error) => {
            if (this.#holder === holder) this.#holder = null;
            if (error === undefined) resolve();
            else reject(error);
            this.#waiting.shift()?.();
          },
        };
        this.#holder = holder;
        void work().then(() => holder.end());
      };
      if (options.steal === true) {
        const before = this.#holder;
        start();
        before?.end(new DOMException('stolen', 'AbortError'));
      } else if (this.#holder === null) start();
      else {
        this.#waiting.push(start);
        options.signal?.addEventListener('abort', () => {
          this.#waiting.splice(this.#waiting.indexOf(start), 1);
          reject(new DOMException('too late', 'TimeoutError'));
        });
      }
    });
  }
}

/** Channels of one name in one process; a message comes a moment later, and not to its sender. */
class FakeChannel extends EventTarget {
  static readonly all = new Set<FakeChannel>();
  constructor() {
    super();
    FakeChannel.all.add(this);
  }
  postMessage(data: unknown): void {
    for (const other of FakeChannel.all) {
      if (other === this) continue;
      setTimeout(() => other.dispatchEvent(new MessageEvent('message', { data })), 0);
    }
  }
}

beforeEach(() => {
  vi.useFakeTimers();
  FakeChannel.all.clear();
  vi.stubGlobal('BroadcastChannel', FakeChannel);
  vi.stubGlobal('navigator', { locks: new FakeLocks() });
  // The real one runs on a clock that a test cannot move.
  vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), ms);
    return controller.signal;
  });
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test('a second window is told, and has the lock once the first lets go', async () => {
  const asked = vi.fn(() => Promise.resolve());
  const first = new EngineLock(asked);
  await first.take(false);
  await first.take(false); // it has it already
  const second = new EngineLock(() => Promise.resolve());
  const refused = expect(second.take(false)).rejects.toMatchObject({ name: 'OtherWindow' });
  await vi.advanceTimersByTimeAsync(2000);
  await refused;
  expect(asked).not.toHaveBeenCalled();
  first.release();
  await second.take(false);
});

test('a page that is left a moment later gives its lock to the next', async () => {
  const first = new EngineLock(() => Promise.resolve());
  await first.take(false);
  const taking = new EngineLock(() => Promise.resolve()).take(false);
  await vi.advanceTimersByTimeAsync(300);
  first.release();
  await taking;
});

test('a window that takes over waits until the holder has let go', async () => {
  const steps: string[] = [];
  const first = new EngineLock(async () => {
    steps.push('asked');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    steps.push('answer kept');
  });
  await first.take(false);
  const taking = new EngineLock(() => Promise.resolve()).take(true).then(() => steps.push('taken'));
  await vi.advanceTimersByTimeAsync(1500);
  await taking;
  expect(steps).toEqual(['asked', 'answer kept', 'taken']);
});

test('a holder that does not answer loses the lock, and lets go of its model then', async () => {
  const first = new EngineLock(() => new Promise(() => undefined));
  await first.take(false);
  const second = new EngineLock(() => Promise.resolve());
  const taking = second.take(true);
  await vi.advanceTimersByTimeAsync(6000);
  await taking;
  // The lock is the second one's: a third window is refused.
  const third = expect(new EngineLock(() => Promise.resolve()).take(false)).rejects.toMatchObject({
    name: 'OtherWindow',
  });
  await vi.advanceTimersByTimeAsync(2000);
  await third;
});
