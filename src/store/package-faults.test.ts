import { beforeEach, expect, it } from 'vitest';
import type { Fetch } from './download.ts';
import { MemoryPlace } from './place.ts';
import { FailingPlace, failure, Visitor } from './testing.ts';

let visitor: Visitor;

beforeEach(async () => {
  visitor = await Visitor.create();
});

it('survives a failure at every operation of a first visit', async () => {
  const counter = new FailingPlace(new MemoryPlace(), 0);
  await visitor.readAll(counter);
  expect(counter.operations).toBeGreaterThan(20);
  for (let at = 1; at <= counter.operations; at += 1) {
    visitor.place = new MemoryPlace();
    const failing = new FailingPlace(visitor.place, at);
    expect(await failure(visitor.readAll(failing)), `operation ${at}`).toBe('StorageFull');
    await visitor.checkClaims();
    visitor.server.requests.length = 0;
    await visitor.readAll();
    await visitor.checkClaims();
    expect(new Set(visitor.server.requests).size).toBe(visitor.server.requests.length);
  }
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
