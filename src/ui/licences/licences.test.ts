import { expect, test } from 'vitest';
import { readLicences } from './licences.ts';

const answer =
  (body: unknown, status = 200) =>
  () =>
    Promise.resolve(new Response(JSON.stringify(body), { status }));

test('packages are listed by name', async () => {
  const list = [
    { name: 'svelte', version: '5', identifier: 'MIT', text: 'MIT License' },
    { name: 'comlink', version: '4', identifier: null },
  ];
  expect(await readLicences(answer(list))).toEqual([
    { name: 'comlink', version: '4', licence: '?', text: '' },
    { name: 'svelte', version: '5', licence: 'MIT', text: 'MIT License' },
  ]);
});

test.each([[{ name: 'x' }], ['text']])('%j is no list of licences', async (body) => {
  await expect(readLicences(answer(body))).rejects.toThrow();
});

test('a list that does not come is told with its status', async () => {
  await expect(readLicences(answer([], 404))).rejects.toThrow('status 404');
});
