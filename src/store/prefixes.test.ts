import { expect, it } from 'vitest';
import { MemoryPlace } from './place.ts';
import { keptPrefixes } from './prefixes.ts';

const sha = (digit: string): string => digit.repeat(64);
const folder = (digit: string): string => digit.repeat(16);
const bytes = (length: number, value = 1): Uint8Array<ArrayBuffer> =>
  new Uint8Array(length).fill(value);

/** A place with packages whose manifests have hashes of one digit each. */
async function placeWith(...digits: string[]) {
  const place = new MemoryPlace();
  const notes: string[] = [];
  for (const digit of digits) await place.write(`models/sample@${folder(digit)}/READY`, bytes(1));
  const open = (digit: string) => keptPrefixes(place, sha(digit), (line) => notes.push(line));
  return { place, notes, open };
}

it('gives back at the next visit what was kept, by package and name', async () => {
  const { open, notes } = await placeWith('a', 'b');
  const first = await open('a');
  expect(await first.read('1f')).toBeNull();
  await first.write('1f', bytes(5));
  await first.write('2e', bytes(6));
  const next = await open('a');
  expect(await next.read('1f')).toEqual(bytes(5));
  expect(await next.read('2e')).toEqual(bytes(6));
  expect(await (await open('b')).read('1f')).toBeNull();
  await next.remove('1f');
  expect(await next.read('1f')).toBeNull();
  expect(await next.read('2e')).toEqual(bytes(6));
  await next.remove('1f');
  expect(notes).toEqual([]);
});

it('goes with its package: replaced or removed, at the next opening of any', async () => {
  const { place, open } = await placeWith('a', 'b');
  await (await open('a')).write('1f', bytes(5));
  await (await open('b')).write('1f', bytes(7));
  await place.remove(`models/sample@${folder('a')}`);
  await place.write(`models/sample@${folder('c')}/READY`, bytes(1));
  const opened = await open('c');
  expect(await place.list('prefixes')).toEqual([folder('b')]);
  expect(await opened.read('1f')).toBeNull();
});

it('keeps what belongs to the package that is being opened, stored or not', async () => {
  const { place, open } = await placeWith();
  await (await open('a')).write('1f', bytes(5));
  await open('a');
  expect(await place.list('prefixes')).toEqual([folder('a')]);
});

it('never takes more than 128 MiB: what was there before goes', async () => {
  const { place, open, notes } = await placeWith('a', 'b');
  await (await open('a')).write('1f', bytes(60 << 20));
  const other = await open('b');
  await other.write('2e', bytes(60 << 20));
  expect(await place.list('prefixes')).toEqual([folder('a'), folder('b')]);
  await other.write('3d', bytes(10 << 20, 9));
  expect(await place.list('prefixes')).toEqual([folder('b')]);
  expect(await other.read('2e')).toBeNull();
  expect((await other.read('3d'))?.[7]).toBe(9);
  expect(notes).toEqual([]);
  await other.write('4c', bytes((128 << 20) + 1));
  expect(await other.read('4c')).toBeNull();
  expect(await other.read('3d')).not.toBeNull();
  expect(notes).toEqual([expect.stringMatching(/not kept: RangeError: 134217729 bytes/)]);
});

it('says why where the browser refuses, and fails nowhere', async () => {
  const { place, open, notes } = await placeWith('a');
  const kept = await open('a');
  const refused = () => Promise.reject(new DOMException('busy', 'NoModificationAllowedError'));
  Object.assign(place, { list: refused, read: refused, write: refused, remove: refused });
  expect(await kept.read('1f')).toBeNull();
  await kept.write('1f', bytes(5));
  await kept.remove('1f');
  await open('a');
  expect(notes).toHaveLength(4);
  expect(notes.every((line) => /not kept: NoModificationAllowedError: busy/.test(line))).toBe(true);
});
