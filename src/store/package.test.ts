import { beforeEach, describe, expect, it } from 'vitest';
import { Failure } from '../failure.ts';
import { sha256 } from '../format/hash.ts';
import type { Fetch } from './download.ts';
import { readModel } from './library.ts';
import { openInstalled, openPackage } from './package.ts';
import { MemoryPlace } from './place.ts';
import { failure, quick, samplePackage, Server, url, Visitor } from './testing.ts';

let visitor: Visitor;
let server: Server;

beforeEach(async () => {
  visitor = await Visitor.create();
  server = visitor.server;
});

const offline = () => new TypeError('failed to fetch');

describe('a first visit', () => {
  it('fetches every file once, and tells bytes that only grow', async () => {
    const { fetched, manifestSha } = await visitor.readAll();
    const files = visitor.listed();
    const names = files.map(({ name }) => name);
    expect(server.requests).toEqual(['manifest.json', ...names]);
    expect(fetched).toEqual(names);
    expect(manifestSha).toBe(await sha256(visitor.files.get('manifest.json') ?? new Uint8Array()));
    const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
    const downloads = visitor.progress.filter(({ phase }) => phase === 'download');
    expect(new Set(downloads.map(({ bytesTotal }) => bytesTotal))).toEqual(new Set([total]));
    expect(downloads.every(({ network }) => network)).toBe(true);
    const done = downloads.map(({ bytesDone }) => bytesDone);
    expect(done).toEqual(done.toSorted((a, b) => a - b));
    expect(done.at(-1)).toBe(total);
  });

  it('asks for room before it fetches a shard', async () => {
    const full = new MemoryPlace();
    full.reserve = () => Promise.reject(new Failure('StorageFull', 'no room'));
    expect(await failure(visitor.open(full))).toBe('StorageFull');
    expect(server.requests).toEqual(['manifest.json']);
  });
});

describe('a later visit', () => {
  beforeEach(async () => {
    await visitor.open();
    server.requests.length = 0;
  });

  it('makes no request, even with the server gone', async () => {
    server.files = new Map();
    expect((await visitor.readAll()).fetched).toEqual([]);
    expect(server.requests).toEqual([]);
  });

  it.each(['flipped', 'short', 'missing'])('fetches a %s shard again, alone', async (how) => {
    const name = 'shard-00003.bin';
    const path = `${await visitor.folder()}/${name}`;
    if (how === 'flipped') await visitor.flip(name);
    if (how === 'short') await visitor.place.write(path, new Uint8Array(100));
    if (how === 'missing') await visitor.place.remove(path);
    expect((await visitor.readAll()).fetched).toEqual([name]);
    expect(server.requests).toEqual([name]);
    expect((await visitor.readAll()).fetched).toEqual([]);
    expect(server.requests).toEqual([name]);
  });

  it('says Offline where a bad shard cannot be fetched, and mends it the next time', async () => {
    await visitor.flip('shard-00003.bin');
    server.fail('shard-00003.bin', offline);
    expect(await failure(visitor.readAll())).toBe('Offline');
    server.faults.clear();
    await visitor.readAll();
  });

  it.each(['manifest.json', 'READY'])(
    'trusts no damaged %s, but keeps the shards',
    async (name) => {
      await visitor.flip(name);
      await visitor.readAll();
      expect(server.requests).toEqual(['manifest.json']);
    },
  );

  it('sweeps files that nobody knows', async () => {
    const home = await visitor.folder();
    await visitor.place.write(`${home}/shard-00001.bin.crswap`, new Uint8Array(9));
    await visitor.readAll();
    expect(await visitor.folder()).toBe(home);
    expect(await visitor.place.list(home)).not.toContain('shard-00001.bin.crswap');
  });

  it('opens by its key, without the address that it came from', async () => {
    const { key } = await visitor.open();
    server.files = new Map();
    const { source } = await openInstalled(key, visitor.place, server.fetch, () => undefined);
    for (const [name, bytes] of visitor.files) {
      expect(Buffer.compare(await source.read(name), bytes), name).toBe(0);
    }
    expect(server.requests).toEqual([]);
    await visitor.place.remove(`models/${key}/READY`);
    const unready = openInstalled(key, visitor.place, server.fetch, () => undefined);
    expect(await failure(unready)).toBe('NoModel');
  });

  it('opens the edition that has taken the place of the one that is asked for', async () => {
    const { key } = await visitor.open();
    const gone = `${key.slice(0, key.indexOf('@'))}@${'0'.repeat(16)}`;
    const opened = await openInstalled(gone, visitor.place, server.fetch, () => undefined);
    expect(opened.key).toBe(key);
    const other = openInstalled(`x${gone}`, visitor.place, server.fetch, () => undefined);
    expect(await failure(other)).toBe('NoModel');
    await visitor.place.remove(`models/${key}/READY`);
    const unready = openInstalled(gone, visitor.place, server.fetch, () => undefined);
    expect(await failure(unready)).toBe('NoModel');
  });

  it('hands out no file that the manifest does not list', async () => {
    const { source } = await visitor.open();
    expect(await failure(source.read('READY'))).toBe('NotFound');
  });
});

describe('an unfinished visit', () => {
  beforeEach(async () => {
    server.fail('shard-00002.bin', offline);
    expect(await failure(visitor.open())).toBe('Offline');
    server.faults.clear();
    server.requests.length = 0;
  });

  it('keeps verified files and fetches only the rest', async () => {
    await visitor.readAll();
    const names = visitor.listed().map(({ name }) => name);
    const rest = names.slice(names.indexOf('shard-00002.bin'));
    expect(server.requests).toEqual(['manifest.json', ...rest]);
  });

  it('gives way to a newer edition, and leaves other models alone', async () => {
    const old = await visitor.folder();
    const other = url.replace('sample', 'other');
    const elsewhere: Fetch = (address, init) => server.fetch(address.replace(other, url), init);
    server.files = await samplePackage(3);
    const { key } = await openPackage(other, visitor.place, elsewhere, () => undefined, quick);
    visitor.files = await samplePackage(2);
    visitor.server = new Server(visitor.files);
    await visitor.readAll();
    expect(await visitor.place.list(old)).toEqual([]);
    expect((await readModel(visitor.place, key))?.ready).toBe(true);
  });
});

describe('a bad answer', () => {
  const shard = 'shard-00002.bin';
  const page = () => new Response('\n<!DOCTYPE html><title>Clinic</title>');
  const typedPage = () => new Response('x', { headers: { 'content-type': 'text/html' } });
  const short = () => new Response(visitor.files.get(shard)?.slice(0, 40));
  const long = () => new Response(new Uint8Array(1 << 20));
  const wrong = () => new Response(visitor.files.get(shard)?.map((byte) => byte ^ 4));
  const status = (code: number) => () => new Response('', { status: code });
  const object = () => new Response('{}');
  const huge = () => new Response(new Uint8Array(2 << 20));
  const broken = () => {
    const start = (controller: ReadableStreamDefaultController) => {
      controller.enqueue(new Uint8Array(10));
      controller.error(new TypeError('network error'));
    };
    return new Response(new ReadableStream({ start }));
  };

  it.each([
    [shard, '404', status(404), 'NotFound', 1],
    [shard, 'a web page', page, 'NotAShard', 1],
    [shard, 'a web page by its type', typedPage, 'NotAShard', 1],
    [shard, 'too few bytes', short, 'ShardTruncated', 3],
    [shard, 'too many bytes', long, 'ShardTruncated', 3],
    [shard, 'a connection that breaks off', broken, 'ShardTruncated', 3],
    [shard, 'other bytes', wrong, 'ShardCorrupt', 3],
    [shard, 'no answer', offline, 'Offline', 3],
    [shard, '503', status(503), 'ServerError', 3],
    [shard, '429', status(429), 'ServerError', 3],
    ['manifest.json', '404', status(404), 'NotFound', 1],
    ['manifest.json', 'a web page', page, 'NotAShard', 1],
    ['manifest.json', 'a web page by its type', typedPage, 'NotAShard', 1],
    ['manifest.json', '500', status(500), 'ServerError', 1],
    ['manifest.json', 'no answer', offline, 'Offline', 1],
    ['manifest.json', 'a connection that breaks off', broken, 'Offline', 1],
    ['manifest.json', 'JSON that is no manifest', object, 'BadManifest', 1],
    ['manifest.json', 'too many bytes', huge, 'BadManifest', 1],
  ] as const)('%s: %s has its name', async (name, _what, answer, expected, tries) => {
    server.fail(name, answer);
    expect(await failure(visitor.open())).toBe(expected);
    expect(server.requests.filter((asked) => asked === name)).toHaveLength(tries);
    server.faults.clear();
    await visitor.readAll();
  });

  it.each([short, wrong, broken, offline])('that comes once is mended unseen', async (answer) => {
    server.fail(shard, answer, 1);
    await visitor.readAll();
    expect(server.requests.filter((name) => name === shard)).toHaveLength(2);
  });

  it('passes on what is no failure of the network', async () => {
    const bug = new RangeError('a bug');
    await expect(visitor.open(visitor.place, () => Promise.reject(bug))).rejects.toBe(bug);
  });
});
