import { expect, it } from 'vitest';
import { sha256 } from './hash.ts';

it('gives the digests of FIPS 180-2', async () => {
  const of = (text: string) => sha256(new TextEncoder().encode(text));
  expect(await of('')).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  expect(await of('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
});
