import { beforeEach, expect, test, vi } from 'vitest';
import { FakeStorage } from '../testing/fake-storage.ts';
import { Consent } from './consent.svelte.ts';

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
});

test('nobody has agreed before they were asked', () => {
  expect(new Consent().given).toBeNull();
});

test('who agreed, and when, is remembered until it is taken back', () => {
  const when = new Date('2026-11-21T08:00:00.000Z');
  new Consent().give('clinic', when.getTime());
  const again = new Consent();
  expect(again.given).toEqual({ role: 'clinic', date: when.toISOString() });
  again.withdraw();
  expect(new Consent().given).toBeNull();
});

test.each([
  'nonsense',
  'null',
  '{"version":0,"role":"guardian","date":"2026-11-21T08:00:00.000Z"}',
  '{"version":1,"role":"nobody","date":"2026-11-21T08:00:00.000Z"}',
  '{"version":1,"role":"guardian","date":"yesterday"}',
])('kept %s is no consent', (kept) => {
  localStorage.setItem('pediatricsgpt.consent', kept);
  expect(new Consent().given).toBeNull();
});
