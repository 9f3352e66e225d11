import { expect, test, vi } from 'vitest';
import { keepAwake } from './wake-lock.ts';

class FakeDocument extends EventTarget {
  visibilityState: DocumentVisibilityState = 'visible';
}

function setUp() {
  const release = vi.fn(() => Promise.resolve());
  const request = vi.fn(() => Promise.resolve({ release } as unknown as WakeLockSentinel));
  return { release, request, document: new FakeDocument(), navigator: { wakeLock: { request } } };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 0));

test('the screen is kept on, and let go', async () => {
  const { release, request, document, navigator } = setUp();
  const end = keepAwake(navigator, document);
  await settled();
  expect(request).toHaveBeenCalledExactlyOnceWith('screen');
  end();
  expect(release).toHaveBeenCalledOnce();
  document.dispatchEvent(new Event('visibilitychange'));
  expect(request).toHaveBeenCalledOnce();
});

test('a page that comes back into sight asks again', () => {
  const { request, document, navigator } = setUp();
  const end = keepAwake(navigator, document);
  document.visibilityState = 'hidden';
  document.dispatchEvent(new Event('visibilitychange'));
  expect(request).toHaveBeenCalledTimes(1);
  document.visibilityState = 'visible';
  document.dispatchEvent(new Event('visibilitychange'));
  expect(request).toHaveBeenCalledTimes(2);
  end();
});

test('a lock that comes too late is let go at once', async () => {
  const { release, document, navigator } = setUp();
  keepAwake(navigator, document)();
  expect(release).not.toHaveBeenCalled();
  await settled();
  expect(release).toHaveBeenCalledOnce();
});

test('a browser that refuses, or knows none, is no failure', async () => {
  const request = vi.fn(() => Promise.reject(new DOMException('no', 'NotAllowedError')));
  const document = new FakeDocument();
  keepAwake({ wakeLock: { request } }, document)();
  keepAwake({}, document)();
  await settled();
});
