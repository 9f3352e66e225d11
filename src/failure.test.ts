import { expect, test } from 'vitest';
import { Failure, partOfApp } from './failure.ts';

test.each([
  ['Chrome', new TypeError('Failed to fetch dynamically imported module: http://x/assets/a-1.js')],
  ['Firefox', new TypeError('error loading dynamically imported module: http://x/assets/a-1.js')],
  ['Safari', new TypeError('Importing a module script failed.')],
  ['Vite', new Error('Unable to preload CSS for /assets/a-1.css')],
])('a part that does not come is told as such: as %s says it', async (_, error) => {
  await expect(partOfApp(Promise.reject(error))).rejects.toMatchObject({ name: 'PartMissing' });
});

test('a part that fails while it starts is a bug of its own, and a failure keeps its name', async () => {
  const bug = new TypeError('x is not a function');
  await expect(partOfApp(Promise.reject(bug))).rejects.toBe(bug);
  const failure = new Failure('StorageFull', 'full');
  await expect(partOfApp(Promise.reject(failure))).rejects.toBe(failure);
  expect(await partOfApp(Promise.resolve(1))).toBe(1);
});
