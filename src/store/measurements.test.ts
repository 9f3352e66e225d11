import { expect, it, vi } from 'vitest';
import { keptMeasurements } from './measurements.ts';

const kept = vi.hoisted(() => ({
  values: new Map<string, unknown>(),
  broken: null as 'at once' | 'later' | null,
}));

vi.mock('idb-keyval', () => {
  const unlessBroken = (work: () => unknown) => {
    const refused = new DOMException('no', 'SecurityError');
    if (kept.broken === 'at once') throw refused;
    return kept.broken === null ? Promise.resolve(work()) : Promise.reject(refused);
  };
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

it.each(['at once', 'later'] as const)(
  'says why nothing is kept, told %s, and goes on',
  async (when) => {
    kept.broken = when;
    const notes: string[] = [];
    const { read, write } = keptMeasurements((line) => notes.push(line));
    expect(await read()).toBeNull();
    await write('x');
    expect(notes).toHaveLength(2);
    expect(notes[0]).toMatch(/not kept: SecurityError/);
  },
);
