import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { sha256 } from '../format/hash.ts';
import { MAX_MANIFEST_BYTES } from '../format/manifest.ts';
import { exampleManifest } from '../format/testing.ts';
import { DiskPackage } from './disk.ts';

const folders: string[] = [];
let folder = '';

/** A folder with a manifest and the files that it lists, all zeros. */
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'disk-test-'));
  folders.push(folder);
  const manifest = exampleManifest();
  const files = manifest.files.map(async ({ name, bytes }) => {
    const content = new Uint8Array(bytes);
    await writeFile(join(folder, name), content);
    return { name, bytes, sha256: await sha256(content) };
  });
  const listed = { ...manifest, files: await Promise.all(files) };
  await writeFile(join(folder, 'manifest.json'), JSON.stringify(listed));
});

afterAll(async () => {
  await Promise.all(folders.map((path) => rm(path, { recursive: true })));
});

describe('a package in a folder', () => {
  it('gives the manifest and every file that it lists', async () => {
    const source = new DiskPackage(folder);
    expect(JSON.parse(new TextDecoder().decode(await source.read('manifest.json')))).toHaveProperty(
      'format',
      1,
    );
    for (const { name, bytes } of exampleManifest().files) {
      expect(await source.read(name)).toHaveLength(bytes);
    }
  });

  it('finds no folder and no file that is not there', async () => {
    const missing = new DiskPackage(join(folder, 'nowhere'));
    await expect(missing.read('manifest.json')).rejects.toMatchObject({ name: 'NotFound' });
    await rm(join(folder, 'shard-00000.bin'));
    const source = new DiskPackage(folder);
    await expect(source.read('shard-00000.bin')).rejects.toThrow(/shard-00000.bin.*ENOENT/);
  });

  it.each(['../secret', 'other.bin', '/etc/passwd'])('refuses the unlisted %s', async (name) => {
    await writeFile(join(folder, 'other.bin'), 'x');
    await expect(new DiskPackage(folder).read(name)).rejects.toMatchObject({ name: 'NotFound' });
  });

  it('notices a shard that is too short, too long or altered', async () => {
    const path = join(folder, 'shard-00000.bin');
    const size = exampleManifest().files[1]?.bytes ?? 0;
    const source = new DiskPackage(folder);
    await writeFile(path, new Uint8Array(size - 1));
    await expect(source.read('shard-00000.bin')).rejects.toMatchObject({ name: 'ShardTruncated' });
    await writeFile(path, new Uint8Array(size + 1));
    await expect(source.read('shard-00000.bin')).rejects.toMatchObject({ name: 'ShardTruncated' });
    const flipped = new Uint8Array(size);
    flipped[size >> 1] = 1;
    await writeFile(path, flipped);
    await expect(source.read('shard-00000.bin')).rejects.toMatchObject({ name: 'ShardCorrupt' });
    await writeFile(path, new Uint8Array(size));
    expect(await source.read('shard-00000.bin')).toHaveLength(size);
  });

  it('does not read a manifest that is too large', async () => {
    await writeFile(join(folder, 'manifest.json'), new Uint8Array(MAX_MANIFEST_BYTES + 1));
    const source = new DiskPackage(folder);
    await expect(source.read('manifest.json')).rejects.toMatchObject({ name: 'BadManifest' });
    await expect(source.read('tokenizer.json')).rejects.toMatchObject({ name: 'BadManifest' });
  });
});
