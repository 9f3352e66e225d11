import { beforeEach, describe, expect, it } from 'vitest';
import { Failure } from '../failure.ts';
import { UrlOrigin } from './download.ts';
import { install, type InstallOptions } from './install.ts';
import { Journal } from './journal.ts';
import { MODELS, readModels, usedByAll } from './library.ts';
import { failure, quick, samplePackage, url, Visitor } from './testing.ts';

const shard = 'shard-00002.bin';
let visitor: Visitor;

beforeEach(async () => {
  visitor = await Visitor.create();
});

/** Installs from the server; `stallMs` is short enough for a test. */
function bring(options: InstallOptions = {}) {
  const origin = new UrlOrigin(url, visitor.server.fetch, 40);
  return install(origin, visitor.place, (step) => visitor.progress.push(step), {
    ...quick,
    ...options,
  });
}

/** The shard's bytes up to a place in it, then a connection that breaks. */
function breakOff(at: number): () => Response {
  return () => {
    const bytes = visitor.files.get(shard) ?? new Uint8Array();
    let sent = 0;
    const pull = (controller: ReadableStreamDefaultController<Uint8Array>): void => {
      if (sent >= at) return controller.error(new TypeError('network error'));
      const piece = bytes.slice(sent, Math.min(sent + 1000, at));
      sent += piece.length;
      controller.enqueue(piece);
    };
    return new Response(new ReadableStream({ pull }), { headers: { etag: '"1"' } });
  };
}

const lengthOf = (name: string): number => visitor.files.get(name)?.length ?? 0;
const total = (): number => visitor.listed().reduce((sum, { bytes }) => sum + bytes, 0);

/** What the server was asked for the shard: the Range of each request. */
function watchRanges(): (string | null)[] {
  const { server } = visitor;
  const ranges: (string | null)[] = [];
  const { fetch } = server;
  server.fetch = (address, init) => {
    if (address.endsWith(shard)) ranges.push(new Headers(init.headers).get('range'));
    return fetch(address, init);
  };
  return ranges;
}

describe('a shard that broke off', () => {
  const at = 3500;

  beforeEach(() => {
    expect(lengthOf(shard)).toBeGreaterThan(at);
    visitor.server.fail(shard, breakOff(at), 1);
  });

  it('goes on from its last byte, in the same visit', async () => {
    const ranges = watchRanges();
    await bring();
    expect(ranges).toEqual([null, `bytes=${at}-`]);
    expect(visitor.server.served).toBe(total() - at);
    await visitor.readAll();
  });

  it('starts again where the server has another file by now', async () => {
    visitor.server.tag = '"2"';
    await bring();
    expect(visitor.server.served).toBe(total());
    await visitor.readAll();
  });

  it('starts again where the server knows no ranges, or gives another one', async () => {
    visitor.server.ranges = false;
    await bring();
    await visitor.readAll();
    for (const range of ['bytes 0-1/2', 'bytes 3499-9999/10000', 'nonsense']) {
      visitor = await Visitor.create();
      const wrong = () => new Response('x', { status: 206, headers: { 'content-range': range } });
      const answers = [breakOff(at), wrong];
      visitor.server.faults.set(shard, answers);
      await bring();
      expect(answers).toEqual([]);
      await visitor.readAll();
    }
  });

  it('starts again after 416: the server has a shorter file', async () => {
    const answers = [breakOff(at), () => new Response('', { status: 416 })];
    visitor.server.faults.set(shard, answers);
    await bring();
    expect(answers).toEqual([]);
    await visitor.readAll();
  });

  it('starts again where its two halves are not of one file, and nothing said so', async () => {
    visitor.server.tag = null;
    const other = () => {
      const bytes = (visitor.files.get(shard) ?? new Uint8Array()).slice(at).fill(7);
      const length = lengthOf(shard);
      const range = `bytes ${at}-${length - 1}/${length}`;
      return new Response(bytes, { status: 206, headers: { 'content-range': range } });
    };
    const answers = [breakOff(at), other];
    visitor.server.faults.set(shard, answers);
    await bring();
    expect(answers).toEqual([]);
    await visitor.readAll();
  });

  it('is given up after three tries without a new byte, and not before', async () => {
    let end = 1000;
    const slowly = () => {
      end = Math.min(end + 500, 3000);
      return breakOff(end)();
    };
    visitor.server.ranges = false;
    visitor.server.fail(shard, slowly);
    expect(await failure(bring())).toBe('ShardTruncated');
    // Four tries bring new bytes, two more bring none.
    expect(visitor.server.requests.filter((name) => name === shard)).toHaveLength(6);
  });
});

describe('a server that falls silent', () => {
  /** Begins, and sends nothing more; or does not even begin. */
  function silent(begins: boolean, init: RequestInit): Promise<Response> {
    if (!begins) {
      return new Promise((_, reject) => {
        const stop = () => reject(new DOMException('aborted', 'AbortError'));
        init.signal?.addEventListener('abort', stop);
      });
    }
    const start = (controller: ReadableStreamDefaultController<Uint8Array>): void =>
      controller.enqueue(new Uint8Array(100));
    return Promise.resolve(new Response(new ReadableStream({ start })));
  }

  it.each([false, true])('is Stalled, and goes on later; it had begun: %s', async (begins) => {
    const { fetch } = visitor.server;
    let asked = 0;
    visitor.server.fetch = (address, init) => {
      if (!address.endsWith(shard)) return fetch(address, init);
      asked += 1;
      return silent(begins, init);
    };
    expect(await failure(bring())).toBe('Stalled');
    expect(asked).toBe(3);
    visitor.server.fetch = fetch;
    await visitor.readAll();
  });
});

describe('a pause', () => {
  it('keeps what is here, is written down, and the next install asks only for the rest', async () => {
    const stop = new AbortController();
    const origin = new UrlOrigin(url, visitor.server.fetch);
    const onProgress: Parameters<typeof install>[2] = ({ file, bytesDone }) => {
      if (file === shard && bytesDone > total() / 3) stop.abort();
    };
    const options = { ...quick, signal: stop.signal };
    expect(await failure(install(origin, visitor.place, onProgress, options))).toBe('Cancelled');
    const [model] = await readModels(visitor.place);
    expect(model).toMatchObject({ ready: false, state: { paused: true } });
    const onTheWay = 2000;
    const before = visitor.server.served;
    await bring();
    expect(visitor.server.served).toBeLessThanOrEqual(total() + onTheWay);
    expect(visitor.server.served).toBeGreaterThan(before);
    expect(visitor.server.requests.filter((name) => name === 'tokenizer.json')).toHaveLength(1);
    const [after] = await readModels(visitor.place);
    expect(after).toMatchObject({ ready: true, state: { paused: false, part: null } });
    await visitor.readAll();
  });

  it('before the first byte leaves nothing behind', async () => {
    const signal = AbortSignal.abort();
    expect(await failure(bring({ signal }))).toBe('Cancelled');
    expect(await visitor.place.list(MODELS)).toEqual([]);
  });
});

it('says how many bytes are needed and used where there is no room, and keeps verified shards', async () => {
  const append = visitor.place.append.bind(visitor.place);
  visitor.place.append = (path, at) =>
    path.endsWith(shard)
      ? Promise.reject(Object.assign(new Error('quota'), { name: 'StorageFull' }))
      : append(path, at);
  expect(await failure(bring())).toBe('StorageFull');
  visitor.place.append = append;
  expect(await usedByAll(visitor.place)).toBeGreaterThan(1000);
  visitor.server.requests.length = 0;
  await bring();
  expect(visitor.server.requests).not.toContain('shard-00001.bin');
});

it('keeps two packages side by side', async () => {
  await bring();
  visitor.server.files = await samplePackage(2);
  const other = url.replace('sample', 'other');
  const origin = new UrlOrigin(other, (address, init) =>
    visitor.server.fetch(address.replace(other, url), init),
  );
  await install(origin, visitor.place, () => undefined, quick);
  expect((await readModels(visitor.place)).map(({ ready }) => ready)).toEqual([true, true]);
  await visitor.readAll();
});

it('asks before it fetches, and a refusal leaves nothing behind', async () => {
  const refusal = new Error('of no use here');
  const accept = () => {
    throw refusal;
  };
  await expect(bring({ accept })).rejects.toBe(refusal);
  expect(visitor.server.requests).toEqual(['manifest.json']);
  expect(await visitor.place.list(MODELS)).toEqual([]);
});

describe('the journal', () => {
  const source = { kind: 'url', url } as const;

  it('is one of its two states at every cut of a rewrite', async () => {
    const { place } = visitor;
    const journal = await Journal.begin(place, 'models/x', source);
    for (let bytes = 1; bytes <= 5; bytes += 1) {
      await journal.write({ part: { file: 'a.bin', bytes, validator: null } });
      const path = `models/x/state.${journal.turn % 2}`;
      const whole = (await place.read(path)) ?? new Uint8Array();
      for (let cut = 0; cut < whole.length; cut += 7) {
        await place.write(path, whole.slice(0, cut));
        const found = await Journal.read(place, 'models/x');
        expect(found?.state.part?.bytes ?? 0).toBe(bytes - 1);
      }
      await place.write(path, whole);
      expect((await Journal.read(place, 'models/x'))?.state.part?.bytes).toBe(bytes);
    }
  });

  it('of another edition is not believed', async () => {
    const { place } = visitor;
    const text = 'nonsense\n{"turn":9,"state":{}}';
    await place.write('models/x/state.0', new TextEncoder().encode(text));
    expect(await Journal.read(place, 'models/x')).toBeNull();
  });
});

describe('storage that is cleared while a package comes', () => {
  /** Clears everything once so many requests were made; then the storage does as `after` says. */
  function clearAt(requests: number, after: () => void = () => undefined): void {
    const { server } = visitor;
    const { fetch } = server;
    let made = 0;
    server.fetch = async (address, init) => {
      made += 1;
      if (made === requests) {
        for (const name of await visitor.place.list(MODELS)) {
          await visitor.place.remove(`${MODELS}/${name}`);
        }
        after();
      }
      return fetch(address, init);
    };
  }

  it('is told as such at every file, leaves nothing that is taken for a package, and lets it come anew', async () => {
    const { fetch } = visitor.server;
    let requests = 0;
    visitor.server.fetch = (address, init) => {
      requests += 1;
      return fetch(address, init);
    };
    await bring();
    expect(requests).toBeGreaterThan(4);
    // The first request is for the manifest, which is written when it is here.
    for (let n = 2; n <= requests; n += 1) {
      visitor = await Visitor.create();
      const whole = visitor.server.fetch;
      clearAt(n);
      expect(await failure(bring()), `request ${n}`).toBe('StorageCleared');
      expect(await visitor.place.list(MODELS)).toEqual([]);
      visitor.server.fetch = whole;
      await bring();
      await visitor.readAll();
    }
  });

  it.each(['StorageFull', 'StorageBroken'] as const)(
    'is told as such also where the storage says %s',
    async (name) => {
      const { place } = visitor;
      clearAt(3, () => {
        place.append = () => Promise.reject(new Failure(name, 'no such file any more'));
      });
      expect(await failure(bring())).toBe('StorageCleared');
      Reflect.deleteProperty(place, 'append'); // its class has the healthy one
      await visitor.readAll();
    },
  );

  it('is no mark of a person who stopped', async () => {
    const stop = new AbortController();
    clearAt(3, () => stop.abort());
    expect(await failure(bring({ signal: stop.signal }))).toBe('StorageCleared');
    expect(await readModels(visitor.place)).toEqual([]);
  });

  it('is told while a package is read, and not mended file by file', async () => {
    const { source } = await visitor.readAll();
    await visitor.place.remove(await visitor.folder());
    expect(await failure(source.read(shard))).toBe('StorageCleared');
    expect(await visitor.place.list(MODELS)).toEqual([]);
  });
});
