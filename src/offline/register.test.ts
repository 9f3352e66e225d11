import { afterEach, expect, test, vi } from 'vitest';
import type { OfflineState } from './api.ts';
import { type OfflineWindow, startOffline } from './register.ts';

/** A service worker and its container, as far as a page sees them. */
class FakeWorker extends EventTarget {
  state = 'activated';
  readonly told: unknown[] = [];
  answer: OfflineState | { error: string } = {
    version: '1',
    shell: { kept: 1, total: 1 },
    later: { kept: 0, total: 1 },
  };

  postMessage(message: unknown, ports: MessagePort[] = []): void {
    this.told.push(message);
    ports[0]?.postMessage(this.answer);
  }
}

class FakeRegistration extends EventTarget {
  active: FakeWorker | null = new FakeWorker();
  waiting: FakeWorker | null = null;
  installing: FakeWorker | null = null;
}

class FakeContainer extends EventTarget {
  controller: FakeWorker | null = null;
  readonly registration = new FakeRegistration();
  registering: () => Promise<FakeRegistration> = () => Promise.resolve(this.registration);
  readonly registered: string[] = [];

  register(url: URL): Promise<FakeRegistration> {
    this.registered.push(url.href);
    return this.registering();
  }

  get ready(): Promise<FakeRegistration> {
    return Promise.resolve(this.registration);
  }

  control(): void {
    this.controller = this.registration.active;
    this.dispatchEvent(new Event('controllerchange'));
  }
}

function setUp(change: Partial<OfflineWindow> = {}) {
  const container = new FakeContainer();
  const marks = new Map<string, string>();
  const reload = vi.fn();
  const events = new EventTarget();
  const window: OfflineWindow = {
    navigator: { serviceWorker: container as unknown as ServiceWorkerContainer },
    crossOriginIsolated: false,
    sessionStorage: {
      getItem: (name) => marks.get(name) ?? null,
      setItem: (name, value) => void marks.set(name, value),
    },
    document: { baseURI: 'http://localhost/app/index.html' },
    location: { reload },
    addEventListener: (type, listen, options) => events.addEventListener(type, listen, options),
    ...change,
  };
  /** As somebody who ticks or types something. */
  const touch = () => void events.dispatchEvent(new Event('input'));
  return { container, reload, window, marks, touch };
}

/** Whether a promise has resolved by now. */
async function isDone(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  void promise.then(() => (done = true));
  await new Promise((resolve) => setImmediate(resolve));
  return done;
}

afterEach(() => vi.useRealTimers());

test('a page that is not isolated is loaded once more, and once only', async () => {
  const { container, reload, window } = setUp();
  const first = startOffline(window);
  expect(await isDone(first.ready)).toBe(false);
  container.control();
  expect(await isDone(first.ready)).toBe(false);
  expect(reload).toHaveBeenCalledTimes(1);
  expect(container.registered).toEqual(['http://localhost/app/sw.js']);
  // Still not isolated: it goes on as it is.
  await startOffline(window).ready;
  expect(reload).toHaveBeenCalledTimes(1);
});

test.each(['before the service worker is there', 'while it is waited for'])(
  'a page in which something was entered %s is not loaded again: it goes on at once',
  async (when) => {
    const { container, reload, window, marks, touch } = setUp();
    const { ready } = startOffline(window);
    if (when.startsWith('while')) await isDone(ready);
    touch();
    expect(await isDone(ready)).toBe(true);
    container.control();
    expect(await isDone(ready)).toBe(true);
    expect(reload).not.toHaveBeenCalled();
    expect([...marks]).toEqual([]);
  },
);

test('an isolated page goes on at once', async () => {
  const { reload, window } = setUp({ crossOriginIsolated: true });
  await startOffline(window).ready;
  expect(reload).not.toHaveBeenCalled();
});

test('without patience for a service worker that does not come', async () => {
  vi.useFakeTimers();
  const { reload, window } = setUp();
  const { ready } = startOffline(window);
  await vi.advanceTimersByTimeAsync(10_000);
  await ready;
  expect(reload).not.toHaveBeenCalled();
});

test('a browser without service workers, or one that refuses, goes on', async () => {
  const none = setUp({ navigator: {} });
  const without = startOffline(none.window);
  await without.ready;
  expect(await without.offline.state()).toBeNull();
  await without.offline.storeLater();

  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  const { container, window, reload } = setUp();
  container.registering = () => Promise.reject(new DOMException('no', 'SecurityError'));
  const refused = startOffline(window);
  await refused.ready;
  expect(reload).not.toHaveBeenCalled();
  expect(await refused.offline.state()).toBeNull();
  await refused.offline.storeLater();
  expect(warn).toHaveBeenCalled();
});

test('where nothing can be counted the page is not reloaded', async () => {
  const broken = {
    getItem: () => null,
    setItem: () => {
      throw new DOMException('no', 'QuotaExceededError');
    },
  };
  const { container, reload, window } = setUp({ sessionStorage: broken });
  container.control();
  await startOffline(window).ready;
  expect(reload).not.toHaveBeenCalled();
});

test('a waiting edition is told of, and takes over when asked', async () => {
  const { container, reload, window } = setUp({ crossOriginIsolated: true });
  container.control();
  const { offline } = startOffline(window);
  const tell = vi.fn();
  offline.onUpdate(tell);
  await isDone(Promise.resolve());
  expect(tell).not.toHaveBeenCalled();
  const { registration } = container;
  const next = new FakeWorker();
  next.state = 'installing';
  registration.installing = next;
  registration.dispatchEvent(new Event('updatefound'));
  next.dispatchEvent(new Event('statechange'));
  expect(tell).not.toHaveBeenCalled();
  next.state = 'installed';
  registration.waiting = next;
  next.dispatchEvent(new Event('statechange'));
  expect(tell).toHaveBeenCalledTimes(1);
  offline.update();
  await isDone(Promise.resolve());
  expect(next.told).toEqual([{ kind: 'take-over' }]);
  expect(reload).not.toHaveBeenCalled();
  container.control();
  expect(reload).toHaveBeenCalledTimes(1);
});

test('the first edition is no update', async () => {
  const { container, window } = setUp({ crossOriginIsolated: true });
  const first = new FakeWorker();
  first.state = 'installed';
  container.registration.waiting = first;
  const tell = vi.fn();
  startOffline(window).offline.onUpdate(tell);
  await isDone(Promise.resolve());
  expect(tell).not.toHaveBeenCalled();
});

test('what is kept is asked of the service worker, and what fails there is told', async () => {
  const { container, window } = setUp({ crossOriginIsolated: true });
  const { offline } = startOffline(window);
  expect(await offline.state()).toMatchObject({ version: '1' });
  const { active } = container.registration;
  if (active === null) throw new Error('no worker');
  await offline.storeLater();
  expect(active.told.at(-1)).toEqual({ kind: 'store-later' });
  active.answer = { error: 'status 404' };
  await expect(offline.storeLater()).rejects.toThrow('status 404');
});
