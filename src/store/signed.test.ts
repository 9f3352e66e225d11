import { generateKeyPairSync, sign } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { UrlOrigin, type Fetch } from './download.ts';
import { FolderOrigin } from './folder.ts';
import { install } from './install.ts';
import { readModels } from './library.ts';
import { openInstalled, openPackage } from './package.ts';
import { packageKeys } from './signed.ts';
import { failure, quick, url, Visitor } from './testing.ts';

const [own, next, strange] = [1, 2, 3].map(() => generateKeyPairSync('ed25519'));
const base64 = (pair = own) =>
  pair?.publicKey.export({ format: 'der', type: 'spki' }).toString('base64') ?? '';
const keys = [base64(own), base64(next)];

let visitor: Visitor;
beforeEach(async () => {
  visitor = await Visitor.create();
});

/** Puts a signature over the package's manifest beside it. */
function signWith(pair = own): void {
  if (pair === undefined) throw new Error('no key');
  const manifest = visitor.files.get('manifest.json') ?? new Uint8Array();
  const signature = sign(null, manifest, pair.privateKey).toString('base64');
  visitor.server.files.set('manifest.sig', new TextEncoder().encode(`${signature}\n`));
}

const fetch: Fetch = (address, init) => visitor.server.fetch(address, init);
const visit = (wanted: readonly string[]) =>
  openPackage(url, visitor.place, fetch, () => undefined, { ...quick, keys: wanted });
const bring = () =>
  install(new UrlOrigin(url, fetch), visitor.place, () => undefined, { ...quick, keys });

describe('a build with keys', () => {
  it.each([
    ['one key', own],
    ['the other', next],
  ])('takes a package signed with %s, and takes it again without the network', async (_, pair) => {
    signWith(pair);
    const { source } = await visit(keys);
    expect(await source.read('manifest.json')).toEqual(visitor.files.get('manifest.json'));
    expect(visitor.server.requests.slice(0, 2)).toEqual(['manifest.json', 'manifest.sig']);
    visitor.server.files = new Map();
    visitor.server.requests.length = 0;
    await visit(keys);
    const [model] = await readModels(visitor.place);
    await openInstalled(model?.key ?? '', visitor.place, fetch, () => undefined, { keys });
    expect(visitor.server.requests).toEqual([]);
  });

  it('asks for nothing behind a signature that is missing or wrong', async () => {
    const { server } = visitor;
    expect(await failure(visit(keys))).toBe('BadSignature');
    signWith(strange);
    expect(await failure(visit(keys))).toBe('BadSignature');
    server.files.set('manifest.sig', new Uint8Array(4000));
    expect(await failure(visit(keys))).toBe('BadSignature');
    server.fail('manifest.sig', () => new Response('<!doctype html>'), 1);
    expect(await failure(visit(keys))).toBe('BadSignature');
    expect(new Set(server.requests)).toEqual(new Set(['manifest.json', 'manifest.sig']));
    expect(await visitor.place.list('models')).toEqual([]);
  });

  it('looks at the signature before it parses the manifest', async () => {
    visitor.server.files.set('manifest.json', new TextEncoder().encode('{}'));
    expect(await failure(visit(keys))).toBe('BadSignature');
    expect(await failure(visit([]))).toBe('BadManifest');
  });

  it('tells a network that does not answer from a missing signature', async () => {
    signWith();
    visitor.server.fail('manifest.sig', () => new TypeError('failed to fetch'), 1);
    expect(await failure(visit(keys))).toBe('Offline');
  });

  it('does not use a package that an unsigned visit left, until its signature is here', async () => {
    await visit([]);
    const [model] = await readModels(visitor.place);
    const key = model?.key ?? '';
    const open = () => openInstalled(key, visitor.place, fetch, () => undefined, { keys });
    expect(await failure(open())).toBe('BadSignature');
    expect(await failure(visit(keys))).toBe('BadSignature');
    signWith();
    visitor.server.requests.length = 0;
    expect((await visit(keys)).fetched).toEqual([]);
    expect(visitor.server.requests).toEqual(['manifest.json', 'manifest.sig']);
    await open();
  });

  it('finds a stored signature that was changed', async () => {
    signWith();
    const { key } = await bring();
    const path = `models/${key}/manifest.sig`;
    const bytes = (await visitor.place.read(path)) ?? new Uint8Array();
    bytes[5] = bytes[5] === 65 ? 66 : 65;
    await visitor.place.write(path, bytes);
    const opened = openInstalled(key, visitor.place, fetch, () => undefined, { keys });
    expect(await failure(opened)).toBe('BadSignature');
  });

  it('asks a folder for it, too', async () => {
    const files = (names: Iterable<[string, Uint8Array<ArrayBuffer>]>) =>
      FolderOrigin.ofFiles(
        [...names].map(([name, bytes]) =>
          Object.assign(new File([bytes], name), { webkitRelativePath: '' }),
        ),
      );
    const bringFrom = (origin: FolderOrigin) =>
      install(origin, visitor.place, () => undefined, { ...quick, keys });
    expect(await failure(bringFrom(files(visitor.files)))).toBe('BadSignature');
    signWith();
    const { key } = await bringFrom(files(visitor.server.files));
    await openInstalled(key, visitor.place, fetch, () => undefined, { keys });
  });
});

describe('a build without keys', () => {
  it('is how the app ships, and never asks for a signature', async () => {
    expect(packageKeys).toEqual([]);
    signWith(strange);
    await visitor.open();
    expect(visitor.server.requests).not.toContain('manifest.sig');
  });
});
