import { beforeEach, expect, test, vi } from 'vitest';
import { backendOf } from './backend-choice.ts';
import { remember } from './memory.ts';
import { Settings } from './settings.svelte.ts';
import { fakeInfo } from './testing/fake-engine.ts';
import { FakeStorage } from './testing/fake-storage.ts';

const defaults = fakeInfo.sampling;

beforeEach(() => {
  vi.stubGlobal('localStorage', new FakeStorage());
});

test('without a change the package decides', () => {
  expect(new Settings().sampling(defaults)).toEqual(defaults);
});

test('a change is used, kept, and taken back', () => {
  const settings = new Settings();
  settings.set('temperature', 0.7);
  settings.set('maxTokens', 99.6);
  const again = new Settings();
  expect(again.sampling(defaults)).toEqual({ ...defaults, temperature: 0.7, maxTokens: 100 });
  again.reset();
  expect(again.sampling(defaults)).toEqual(defaults);
  expect(new Settings().sampling(defaults)).toEqual(defaults);
});

test.each([
  ['temperature', -1, 0],
  ['temperature', 9, 1.5],
  ['repetitionPenalty', 0.5, 1],
  ['maxTokens', 1e9, 1024],
] as const)('%s of %d becomes %d', (name, value, expected) => {
  const settings = new Settings();
  settings.set(name, value);
  expect(settings.sampling(defaults)[name]).toBe(expected);
});

test('settings of an earlier edition, which knew fewer, are still read', () => {
  const old = {
    temperature: 0.3,
    repetitionPenalty: null,
    maxTokens: 64,
    seedIsFixed: true,
    seed: 7,
  };
  localStorage.setItem('pediatricsgpt.settings', JSON.stringify(old));
  const settings = new Settings();
  expect(settings.sampling(defaults)).toEqual({ ...defaults, temperature: 0.3, maxTokens: 64 });
  settings.set('topK', 20.4);
  settings.set('topP', 3);
  expect(new Settings().sampling(defaults)).toMatchObject({ topK: 20, topP: 1, maxTokens: 64 });
});

test('a system text is kept, trimmed and cut, and taken back with the rest', () => {
  const settings = new Settings();
  settings.setSystem(`  ${'长'.repeat(600)} `);
  expect(settings.system).toHaveLength(500);
  settings.setSystem(' 请用一句话回答。 ');
  expect(new Settings().system).toBe('请用一句话回答。');
  settings.reset();
  expect(new Settings().system).toBe('');
});

test('what is no number changes nothing', () => {
  const settings = new Settings();
  settings.set('temperature', Number.NaN);
  expect(settings.sampling(defaults)).toEqual(defaults);
});

test('a fixed seed stays, a random one moves', () => {
  let last = 0;
  const settings = new Settings(null, () => (last += 1));
  expect([settings.nextSeed(), settings.nextSeed()]).toEqual([1, 2]);
  settings.setSeed(true, 42);
  expect([settings.nextSeed(), settings.nextSeed()]).toEqual([42, 42]);
  expect(new Settings().nextSeed()).toBe(42);
});

test.each(['nonsense', '{"temperature":"hot"}', 'null'])('kept %s is as if nothing was', (kept) => {
  localStorage.setItem('pediatricsgpt.settings', kept);
  expect(new Settings().sampling(defaults)).toEqual(defaults);
});

test('a browser without storage still has settings', () => {
  vi.stubGlobal('localStorage', undefined);
  const settings = new Settings();
  settings.set('temperature', 1);
  expect(settings.sampling(defaults).temperature).toBe(1);
});

test('what computes is kept; the address wins for its visit, and reset leaves it', () => {
  expect(new Settings().backend).toBe('auto');
  const settings = new Settings();
  settings.setBackend('cpu');
  settings.reset();
  expect(new Settings().backend).toBe('cpu');
  expect(new Settings('webgpu').backend).toBe('webgpu');
  expect(new Settings().backend).toBe('cpu');
  settings.setBackend('auto');
  expect(new Settings().backend).toBe('auto');
  remember('backend', 'abacus');
  expect(new Settings().backend).toBe('auto');
});

test.each([
  ['?backend=cpu', 'cpu'],
  ['?model=tiny&backend=webgpu', 'webgpu'],
  ['?backend=auto', 'auto'],
  ['?backend=abacus', null],
  ['', null],
])('the address %s asks for %s', (query, backend) => {
  expect(backendOf(`http://clinic.test/${query}`)).toBe(backend);
});
