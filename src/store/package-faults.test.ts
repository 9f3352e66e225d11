import { beforeEach, expect, it } from 'vitest';
import type { Fetch } from './download.ts';
import { MemoryPlace } from './place.ts';
import { FailingPlace, failure, Visitor } from './testing.ts';

let visitor: Visitor;

beforeEach(async () => {
  visitor = await Visitor.create();
});

it.each([
  ['a full storage', false],
  ['a page that is killed', true],
])('survives %s at every operation of a first visit', async (_, dies) => {
  const counter = new FailingPlace(new MemoryPlace(), 0);
  await visitor.readAll(counter);
  expect(counter.operations).toBeGreaterThan(60);
  const total = visitor.listed().reduce((sum, { bytes }) => sum + bytes, 0);
  let fewest = total;
  for (let at = 1; at <= counter.operations; at += 1) {
    visitor.place = new MemoryPlace();
    visitor.server.served = 0;
    const failing = new FailingPlace(visitor.place, at, dies);
    expect(await failure(visitor.readAll(failing)), `operation ${at}`).toBe('StorageFull');
    await visitor.checkClaims();
    const verified = await visitor.verifiedFiles();
    visitor.server.requests.length = 0;
    const before = visitor.server.served;
    await visitor.readAll();
    await visitor.checkClaims();
    const again = visitor.server.requests;
    expect(new Set(again).size, `operation ${at}`).toBe(again.length);
    expect(again.filter((name) => verified.includes(name))).toEqual([]);
    // Only what was not flushed is served twice: two pieces, and what was on its way.
    expect(visitor.server.served, `operation ${at}`).toBeLessThanOrEqual(total + 4 * 1000);
    fewest = Math.min(fewest, visitor.server.served - before);
  }
  expect(fewest).toBe(0);
});

it('survives a failure at every operation of a visit that mends', async () => {
  const damage = async () => {
    visitor.place = new MemoryPlace();
    await visitor.open();
    await visitor.flip('shard-00001.bin');
    await visitor.place.write(`${await visitor.folder()}/stray`, new Uint8Array(3));
  };
  await damage();
  const counter = new FailingPlace(visitor.place, 0);
  await visitor.readAll(counter);
  for (let at = 1; at <= counter.operations; at += 1) {
    await damage();
    const failing = new FailingPlace(visitor.place, at);
    expect(await failure(visitor.readAll(failing)), `operation ${at}`).toBe('StorageFull');
    await visitor.readAll();
    visitor.server.requests.length = 0;
    await visitor.readAll();
    expect(visitor.server.requests).toEqual([]);
  }
});

it('survives a network that goes away at every request', async () => {
  for (let at = 0; at < visitor.files.size; at += 1) {
    visitor.place = new MemoryPlace();
    let asked = 0;
    const flaky: Fetch = (address, init) => {
      asked += 1;
      if (asked > at) return Promise.reject(new TypeError('failed to fetch'));
      return visitor.server.fetch(address, init);
    };
    expect(await failure(visitor.open(visitor.place, flaky)), `request ${at}`).toBe('Offline');
    await visitor.checkClaims();
    await visitor.readAll();
  }
});
