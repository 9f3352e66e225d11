import { expect, it, vi } from 'vitest';
import { keptMeasurements } from './measurements.ts';

const kept = vi.hoisted(() => ({ values: new Map<string, unknown>(), broken: false }));

vi.mock('idb-keyval', () => {
  const unlessBroken = (work: () => unknown) =>
    kept.broken ? Promise.reject(new DOMException('no', 'SecurityError')) : Promise.resolve(work());
  return {
    createStore: () => null,
    get: (key: string) => unlessBroken(() => kept.values.get(key)),
    set: (key: string, value: unknown) => unlessBroken(() => void kept.values.set(key, value)),
  };
});

it('gives back the text that was written last, and nothing at first', async () => {
  const notes: string[] = [];
  const { read, write } = keptMeasurements((line) => notes.push(line));
  expect(await read()).toBeNull();
  await write('{"a":1}');
  await write('{"a":2}');
  expect(await read()).toBe('{"a":2}');
  kept.values.set('kernels', 7);
  expect(await read()).toBeNull();
  expect(notes).toEqual([]);
});

it('says why nothing is kept where the browser keeps nothing, and goes on', async () => {
  kept.broken = true;
  const notes: string[] = [];
  const { read, write } = keptMeasurements((line) => notes.push(line));
  expect(await read()).toBeNull();
  await write('x');
  expect(notes).toHaveLength(2);
  expect(notes[0]).toMatch(/not kept: SecurityError/);
});
