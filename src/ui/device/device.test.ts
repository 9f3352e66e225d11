import { expect, test, vi } from 'vitest';
import type { Offline } from '../../offline/api.ts';
import { browserFacts, reportText } from './facts.ts';
import { type CheckWindow, isWhole, selfCheck } from './self-check.ts';

const kept = { version: '1', shell: { kept: 3, total: 3 }, later: { kept: 1, total: 2 } };
const offline = (state: typeof kept | null): Offline => ({
  onUpdate: () => undefined,
  update: () => undefined,
  state: () => Promise.resolve(state),
  storeLater: () => Promise.resolve(),
});

/** A window whose policy refuses requests to other sites, or does not. */
function fakeWindow(refuses: boolean): CheckWindow {
  const document = new EventTarget();
  return {
    isSecureContext: true,
    crossOriginIsolated: true,
    document: document as Document,
    fetch: (url) => {
      if (refuses) {
        const event = Object.assign(new Event('securitypolicyviolation'), { blockedURI: url });
        document.dispatchEvent(event);
      }
      return Promise.reject(new TypeError('failed'));
    },
  };
}

test('the self-check says what is there', async () => {
  const checks = await selfCheck(fakeWindow(true), offline(kept), true);
  expect(checks).toEqual({
    secure: true,
    worker: true,
    shell: kept.shell,
    later: kept.later,
    model: true,
    isolated: true,
    peers: true,
    policy: true,
  });
  expect(isWhole(checks.shell)).toBe(true);
  expect(isWhole(checks.later)).toBe(false);
});

test('a page whose policy lets requests out says so', async () => {
  const checks = await selfCheck(fakeWindow(false), offline(null), false);
  expect(checks).toMatchObject({ policy: false, worker: false, shell: null, model: false });
  expect(isWhole(checks.shell)).toBeNull();
});

test('peer connections that are still there are told', async () => {
  const window = Object.assign(fakeWindow(true), { RTCPeerConnection: vi.fn() });
  expect((await selfCheck(window, undefined, true)).peers).toBe(false);
});

test.each([
  ['Mozilla/5.0 (Linux; Android 14) MicroMessenger/8.0.50', true],
  ['Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/156.0 Mobile Safari/537.36', false],
])('%s', async (userAgent, isInApp) => {
  expect((await browserFacts({ userAgent })).isInApp).toBe(isInApp);
});

test('a browser that tells nothing gives no facts', async () => {
  expect(await browserFacts({ userAgent: 'x' })).toEqual({
    agent: 'x',
    cores: null,
    memoryGigabytes: null,
    storageBytes: null,
    isInApp: false,
  });
});

test('the report is lines of names and values', () => {
  expect(
    reportText([
      { name: 'a', value: '1' },
      { name: 'b', value: '2' },
    ]),
  ).toBe('a: 1\nb: 2');
});
