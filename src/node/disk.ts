import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../failure.ts';
import { sha256 } from '../format/hash.ts';
import { parseManifest } from '../format/layout.ts';
import { MAX_MANIFEST_BYTES, type FileInfo } from '../format/manifest.ts';
import type { PackageSource } from '../format/source.ts';

const MANIFEST = 'manifest.json';

/** A model package in a folder. Listed files are held against length and SHA-256 at every read. */
export class DiskPackage implements PackageSource {
  readonly folder: string;
  #files: ReadonlyMap<string, FileInfo> | null = null;

  constructor(folder: string) {
    this.folder = folder;
  }

  /** @throws Failure NotFound, BadManifest, ShardTruncated, ShardCorrupt */
  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    if (name === MANIFEST) return this.#readManifest();
    const info = (await this.#listed()).get(name);
    if (info === undefined) throw new Failure('NotFound', `${MANIFEST} lists no file ${name}`);
    const bytes = await this.#load(name, (size) => {
      if (size === info.bytes) return;
      throw new Failure('ShardTruncated', `${name} has ${size} bytes, not ${info.bytes}`);
    });
    const hash = await sha256(bytes);
    if (hash !== info.sha256) {
      throw new Failure('ShardCorrupt', `${name} has SHA-256 ${hash}, not ${info.sha256}`);
    }
    return bytes;
  }

  #readManifest(): Promise<Uint8Array<ArrayBuffer>> {
    return this.#load(MANIFEST, (size) => {
      if (size <= MAX_MANIFEST_BYTES) return;
      throw new Failure('BadManifest', `${size} bytes, more than ${MAX_MANIFEST_BYTES}`);
    });
  }

  async #listed(): Promise<ReadonlyMap<string, FileInfo>> {
    if (this.#files === null) {
      const manifest = parseManifest(await this.#readManifest());
      this.#files = new Map(manifest.files.map((file) => [file.name, file]));
    }
    return this.#files;
  }

  /** The whole of a file, once its size has been looked at. */
  async #load(name: string, checkSize: (bytes: number) => void): Promise<Uint8Array<ArrayBuffer>> {
    const path = join(this.folder, name);
    const handle = await openFile(path);
    try {
      const { size } = await handle.stat();
      checkSize(size);
      const bytes = new Uint8Array(size);
      let done = 0;
      while (done < size) {
        const { bytesRead } = await handle.read(bytes, done, size - done, done);
        if (bytesRead === 0) throw new Failure('ShardTruncated', `${path} became shorter`);
        done += bytesRead;
      }
      return bytes;
    } finally {
      await handle.close();
    }
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown';
    throw new Failure('NotFound', `${path} cannot be read (${code})`, { cause });
  }
}
