import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { plant, plantedBugs } from './planted-bugs.ts';

it.each(plantedBugs)('$kernel: $what still has its place', (bug) => {
  const wgsl = readFileSync(new URL(`../../shaders/${bug.kernel}.wgsl`, import.meta.url), 'utf8');
  expect(plant(bug, wgsl)).not.toBe(wgsl);
});

it('refuses a bug without a place, or with several', () => {
  const bug = { kernel: 'x', what: 'y', find: 'a', replace: 'b' };
  expect(plant(bug, 'a')).toBe('b');
  expect(() => plant(bug, 'b')).toThrow(/0 places/);
  expect(() => plant(bug, 'aa')).toThrow(/2 places/);
});
