import { beforeEach, describe, expect, it } from 'vitest';
import { FolderOrigin } from './folder.ts';
import { install } from './install.ts';
import { readModels } from './library.ts';
import { openInstalled } from './package.ts';
import { failure, quick, Visitor } from './testing.ts';

let visitor: Visitor;

beforeEach(async () => {
  visitor = await Visitor.create();
});

/** A picked file, as `<input webkitdirectory>` gives it. */
function picked(path: string, bytes: Uint8Array<ArrayBuffer>): File {
  const file = new File([bytes], path.split('/').at(-1) ?? '', { lastModified: 1 });
  return Object.defineProperty(file, 'webkitRelativePath', { value: path });
}

const all = (folder: string): File[] =>
  [...visitor.files].map(([name, bytes]) => picked(`${folder}${name}`, bytes));

const bring = (files: readonly File[]) =>
  install(FolderOrigin.ofFiles(files), visitor.place, () => undefined, quick);

/** The failure of an import, told at once or while it reads. */
const failureOf = (files: readonly File[]): Promise<string> =>
  failure(Promise.resolve().then(() => bring(files)));

it.each(['', 'stick/', 'stick/models/sample/'])('imports files below %j', async (folder) => {
  const { key } = await bring([...all(folder), picked('stick/readme.txt', new Uint8Array(3))]);
  const asked: string[] = [];
  const fetchFn = (url: string) => {
    asked.push(url);
    return Promise.reject(new TypeError('no network'));
  };
  const { source } = await openInstalled(key, visitor.place, fetchFn, () => undefined);
  for (const [name, bytes] of visitor.files) {
    expect(Buffer.compare(await source.read(name), bytes), name).toBe(0);
  }
  // Nothing but what the manifest lists was taken, and a damaged file is asked of nobody.
  expect(await visitor.place.list(`models/${key}`)).not.toContain('readme.txt');
  await visitor.flip('shard-00001.bin');
  expect(await failure(source.read('shard-00001.bin'))).toBe('ShardCorrupt');
  expect(asked).toEqual([]);
  expect((await readModels(visitor.place))[0]?.ready).toBe(false);
  await bring(all(folder));
  expect((await readModels(visitor.place))[0]?.ready).toBe(true);
});

it('finishes from a stick what a server began, and is mended by the server later', async () => {
  visitor.server.fail('shard-00002.bin', () => new TypeError('gone'));
  expect(await failure(visitor.open())).toBe('Offline');
  await bring(all('stick/'));
  visitor.server.faults.clear();
  visitor.server.requests.length = 0;
  await visitor.readAll();
  expect(visitor.server.requests).toEqual([]);
  await visitor.flip('shard-00001.bin');
  await visitor.readAll();
  expect(visitor.server.requests).toEqual(['shard-00001.bin']);
});

describe('a folder that is no package ends in a name:', () => {
  const without = (name: string): File[] => all('stick/').filter((file) => file.name !== name);
  const changed = (name: string, change: (bytes: Uint8Array<ArrayBuffer>) => void): File[] => {
    const bytes = (visitor.files.get(name) ?? new Uint8Array()).slice();
    change(bytes);
    return [...without(name), picked(`stick/${name}`, bytes)];
  };
  const shard = 'shard-00002.bin';

  it.each([
    ['nothing', () => [], 'BadFolder'],
    ['no manifest', () => without('manifest.json'), 'BadFolder'],
    ['two packages', () => [...all('stick/a/'), ...all('stick/b/')], 'BadFolder'],
    ['a name twice', () => [...all(''), picked('manifest.json', new Uint8Array(2))], 'BadFolder'],
    ['a shard missing', () => without(shard), 'NotFound'],
    [
      'a shard elsewhere',
      () => [...without(shard), picked(`stick/x/${shard}`, new Uint8Array(9))],
      'NotFound',
    ],
    [
      'a short shard',
      () => [...without(shard), picked(`stick/${shard}`, new Uint8Array(9))],
      'ShardTruncated',
    ],
    [
      'a flipped byte',
      () => changed(shard, (bytes) => (bytes[7] = (bytes[7] ?? 0) ^ 1)),
      'ShardCorrupt',
    ],
    [
      'a broken manifest',
      () => changed('manifest.json', (bytes) => bytes.fill(0, 9)),
      'BadManifest',
    ],
    [
      'a huge manifest',
      () => [...without('manifest.json'), picked('stick/manifest.json', new Uint8Array(2 << 20))],
      'BadManifest',
    ],
  ] as const)('%s', async (_, files, name) => {
    expect(await failureOf(files())).toBe(name);
    for (const model of await readModels(visitor.place)) expect(model.ready).toBe(false);
    await bring(all('stick/'));
    await visitor.checkClaims();
  });

  it.each(['NotReadableError', 'NotFoundError', 'NotAllowedError'])(
    'a file that ends in %s while it is read, and the stick plugged in again goes on',
    async (reason) => {
      const files = all('stick/');
      const file = files.find(({ name }) => name === shard);
      if (file === undefined) throw new Error('no such shard');
      let reads = 0;
      const slice = file.slice.bind(file);
      file.slice = (from) => {
        const half = slice(from, 2000);
        const stream = half.stream.bind(half);
        half.stream = () => {
          const reader = stream().getReader();
          return new ReadableStream({
            async pull(controller) {
              const { done, value } = await reader.read();
              reads += 1;
              if (done) controller.error(new DOMException('it changed', reason));
              else controller.enqueue(value);
            },
          });
        };
        return half;
      };
      expect(await failureOf(files)).toBe('BadFolder');
      expect(reads).toBeGreaterThan(1);
      expect((await readModels(visitor.place))[0]?.state?.part).toMatchObject({ file: shard });
      await bring(all('stick/'));
      await visitor.checkClaims();
    },
  );
});

it('reads a folder handle: itself, or the one package in it', async () => {
  const fileHandle = (name: string, bytes: Uint8Array<ArrayBuffer>) => ({
    kind: 'file',
    getFile: () => Promise.resolve(new File([bytes], name, { lastModified: 1 })),
  });
  type Entries = Record<string, { kind: string }>;
  const folderHandle = (name: string, entries: Entries): FileSystemDirectoryHandle => {
    const get = (child: string) => Promise.resolve(entries[child]);
    const handle = { kind: 'directory', name, getFileHandle: get, getDirectoryHandle: get };
    const list = async function* () {
      await Promise.resolve();
      yield* Object.entries(entries);
    };
    return Object.assign(handle, { entries: list }) as unknown as FileSystemDirectoryHandle;
  };
  const files = Object.fromEntries(
    [...visitor.files].map(([name, bytes]) => [name, fileHandle(name, bytes)]),
  );
  const inside = folderHandle('nano', files);
  const stick = folderHandle('stick', { nano: inside, photos: folderHandle('photos', {}) });
  for (const handle of [inside, stick]) {
    const origin = await FolderOrigin.ofHandle(handle);
    expect(origin.source).toEqual({ kind: 'folder', name: 'nano' });
    await install(origin, visitor.place, () => undefined, quick);
    await visitor.checkClaims();
  }
  const two = folderHandle('stick', { a: inside, b: inside });
  expect(await failure(FolderOrigin.ofHandle(two))).toBe('BadFolder');
});
