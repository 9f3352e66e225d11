import { expect } from 'vitest';
import { Failure, failureName } from '../failure.ts';
import { sha256 } from '../format/hash.ts';
import { parseManifest, roundUp } from '../format/layout.ts';
import { TENSOR_ALIGNMENT, type FileInfo, type Manifest } from '../format/manifest.ts';
import { exampleManifest } from '../format/testing.ts';
import type { LoadProgress } from '../worker/api.ts';
import type { Fetch } from './download.ts';
import { openPackage, type StoredPackage } from './package.ts';
import { MemoryPlace, type Place } from './place.ts';

/** For tests: a package, a server, and a place that fails. */

export const url = 'http://clinic.test/models/sample/';

type Files = Map<string, Uint8Array<ArrayBuffer>>;

/**
 * All files of a package by name, manifest.json included. The strict reader accepts it; the bytes
 * mean nothing. Four base tensors share a shard.
 */
export async function samplePackage(seed: number): Promise<Files> {
  const manifest = exampleManifest();
  const contents: Files = new Map();
  contents.set('tokenizer.json', new TextEncoder().encode(`{"sample":${seed}}`));
  const adapter = manifest.files.find(({ name }) => name === 'adapter-00000.bin');
  contents.set('adapter-00000.bin', noise(adapter?.bytes ?? 0, seed));
  for (const [file, bytes] of spread(manifest)) contents.set(file, noise(bytes, seed));
  manifest.files = await Promise.all(
    [...contents].map(async ([name, bytes]): Promise<FileInfo> => ({
      name,
      bytes: bytes.length,
      sha256: await sha256(bytes),
    })),
  );
  return contents.set('manifest.json', new TextEncoder().encode(JSON.stringify(manifest)));
}

function noise(length: number, seed: number): Uint8Array<ArrayBuffer> {
  let state = seed + 1;
  return new Uint8Array(length).map(() => (state = (state * 48271) % 2147483647) & 0xff);
}

/** Moves the base tensors into shards of four; gives the bytes of each shard. */
function spread({ tensors }: Manifest): Map<string, number> {
  const ends = new Map<string, number>();
  for (const [i, tensor] of tensors.entries()) {
    if (tensor.blocks[0]?.file !== 'shard-00000.bin') continue;
    const file = `shard-0000${i >> 2}.bin`;
    for (const block of tensor.blocks) {
      block.file = file;
      block.offset = roundUp(ends.get(file) ?? 0, TENSOR_ALIGNMENT);
      ends.set(file, block.offset + block.bytes);
    }
  }
  return ends;
}

/** A server in memory that writes down what it was asked for. */
export class Server {
  readonly requests: string[] = [];
  /** Name of a file, and how to answer instead; the answers are used up one by one. */
  readonly faults = new Map<string, (() => Response | TypeError)[]>();
  files: Files;

  constructor(files: Files) {
    this.files = files;
  }

  readonly fetch: Fetch = (address) => {
    const name = address.slice(url.length);
    this.requests.push(name);
    const fault = this.faults.get(name)?.shift()?.();
    if (fault instanceof TypeError) return Promise.reject(fault);
    const bytes = this.files.get(name);
    return Promise.resolve(
      fault ?? (bytes ? new Response(bytes) : new Response('', { status: 404 })),
    );
  };

  /** Answers so for this file, `times` times. */
  fail(name: string, answer: () => Response | TypeError, times = 99): void {
    this.faults.set(name, Array<() => Response | TypeError>(times).fill(answer));
  }
}

/** Fails once, at operation `at`; a write that fails leaves half of its bytes. */
export class FailingPlace implements Place {
  operations = 0;
  readonly #inner: Place;
  readonly #at: number;

  constructor(inner: Place, at: number) {
    this.#inner = inner;
    this.#at = at;
  }

  list = (folder: string) => this.#step(() => this.#inner.list(folder));
  size = (path: string) => this.#step(() => this.#inner.size(path));
  read = (path: string) => this.#step(() => this.#inner.read(path));
  remove = (path: string) => this.#step(() => this.#inner.remove(path));
  reserve = (bytes: number) => this.#step(() => this.#inner.reserve(bytes));
  write = (path: string, bytes: Uint8Array<ArrayBuffer>) =>
    this.#step(
      () => this.#inner.write(path, bytes),
      () => this.#inner.write(path, bytes.slice(0, bytes.length >> 1)),
    );

  async #step<T>(work: () => Promise<T>, half?: () => Promise<void>): Promise<T> {
    this.operations += 1;
    if (this.operations !== this.#at) return work();
    await half?.();
    throw new Failure('StorageFull', `operation ${this.#at}`);
  }
}

/** A browser that visits one page of a clinic again and again. */
export class Visitor {
  files: Files;
  server: Server;
  place = new MemoryPlace();
  readonly progress: LoadProgress[] = [];

  private constructor(files: Files) {
    this.files = files;
    this.server = new Server(files);
  }

  static async create(): Promise<Visitor> {
    return new Visitor(await samplePackage(1));
  }

  open(place: Place = this.place, fetchFn: Fetch = this.server.fetch): Promise<StoredPackage> {
    return openPackage(url, place, fetchFn, (event) => this.progress.push(event));
  }

  /** Opens the package and reads every file: each must be what the server has. */
  async readAll(place: Place = this.place): Promise<StoredPackage> {
    const opened = await this.open(place);
    for (const [name, bytes] of this.files) {
      expect(same(await opened.source.read(name), bytes), `${name} as the server has it`).toBe(
        true,
      );
    }
    return opened;
  }

  listed(): readonly FileInfo[] {
    return parseManifest(this.files.get('manifest.json') ?? new Uint8Array()).files;
  }

  /** The only folder in the place. */
  async folder(): Promise<string> {
    const names = await this.place.list('models');
    expect(names).toHaveLength(1);
    return `models/${names[0]}`;
  }

  /** Flips one bit of a stored file. */
  async flip(name: string): Promise<void> {
    const path = `${await this.folder()}/${name}`;
    const bytes = (await this.place.read(path)) ?? new Uint8Array();
    bytes[10] = (bytes[10] ?? 0) ^ 1;
    await this.place.write(path, bytes);
  }

  /** What the storage claims must hold: where READY stands, every file verifies. */
  async checkClaims(): Promise<void> {
    for (const name of await this.place.list('models')) {
      const at = `models/${name}`;
      const ready = await this.place.read(`${at}/READY`);
      const manifest = await this.place.read(`${at}/manifest.json`);
      if (ready === null || manifest === null) continue;
      if (new TextDecoder().decode(ready) !== (await sha256(manifest))) continue;
      for (const file of parseManifest(manifest).files) {
        const bytes = await this.place.read(`${at}/${file.name}`);
        expect(bytes && (await sha256(bytes)), `${file.name} behind READY`).toBe(file.sha256);
      }
    }
  }
}

/** The name of the failure that `work` ends in, or 'none'. */
export async function failure(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'none',
    (error: unknown) => failureName(error),
  );
}

/** `expect(a).toEqual(b)` walks typed arrays as objects: far too slow here. */
function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
