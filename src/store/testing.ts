import { expect } from 'vitest';
import { Failure, failureName } from '../failure.ts';
import { sha256 } from '../format/hash.ts';
import { parseManifest, roundUp } from '../format/layout.ts';
import { TENSOR_ALIGNMENT, type FileInfo, type Manifest } from '../format/manifest.ts';
import { exampleManifest } from '../format/testing.ts';
import type { LoadProgress } from '../worker/api.ts';
import type { Fetch } from './download.ts';
import type { InstallOptions } from './install.ts';
import { openPackage, type StoredPackage } from './package.ts';
import { MemoryPlace, type FileWriter, type Place } from './place.ts';

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
  /** Bytes of files that were given out, the manifest's not counted. */
  served = 0;
  /** Name of a file, and how to answer instead; the answers are used up one by one. */
  readonly faults = new Map<string, ((init: RequestInit) => Response | TypeError)[]>();
  files: Files;
  /** Whether it knows ranges, and tells files from newer ones by a tag. */
  ranges = true;
  tag: string | null = '"1"';

  constructor(files: Files) {
    this.files = files;
  }

  fetch: Fetch = (address, init) => {
    const name = address.slice(url.length);
    this.requests.push(name);
    const fault = this.faults.get(name)?.shift()?.(init);
    if (fault instanceof TypeError) return Promise.reject(fault);
    return Promise.resolve(fault ?? this.#answer(name, new Headers(init.headers)));
  };

  #answer(name: string, asked: Headers): Response {
    const bytes = this.files.get(name);
    if (bytes === undefined) return new Response('', { status: 404 });
    const headers: Record<string, string> = this.tag === null ? {} : { etag: this.tag };
    const range = /^bytes=(\d+)-$/.exec(asked.get('range') ?? '');
    const condition = asked.get('if-range');
    const isSame = condition === null || condition === this.tag;
    if (range === null || !this.ranges || !isSame) {
      return new Response(this.#pieces(name, bytes), { headers });
    }
    const from = Number(range[1]);
    if (from >= bytes.length) return new Response('', { status: 416 });
    headers['content-range'] = `bytes ${from}-${bytes.length - 1}/${bytes.length}`;
    return new Response(this.#pieces(name, bytes.slice(from)), { status: 206, headers });
  }

  /** In pieces, as a network delivers them. */
  #pieces(name: string, bytes: Uint8Array<ArrayBuffer>): ReadableStream<Uint8Array<ArrayBuffer>> {
    let at = 0;
    return new ReadableStream({
      pull: (controller) => {
        const piece = bytes.slice(at, at + PIECE);
        at += piece.length;
        if (name !== 'manifest.json') this.served += piece.length;
        if (piece.length > 0) controller.enqueue(piece);
        if (at >= bytes.length) controller.close();
      },
    });
  }

  /** Answers so for this file, `times` times. */
  fail(name: string, answer: (init: RequestInit) => Response | TypeError, times = 99): void {
    this.faults.set(name, Array<typeof answer>(times).fill(answer));
  }
}

const PIECE = 1000;

/**
 * Fails at operation `at`: once, as a full storage does, or from then on, as for a page that is
 * killed. A write that fails leaves half of its bytes; what a dead page had not flushed becomes zeros.
 */
export class FailingPlace implements Place {
  operations = 0;
  readonly #inner: Place;
  readonly #at: number;
  readonly #dies: boolean;
  /** Files that are open, and how much of each is flushed. */
  readonly #open = new Map<string, number>();

  constructor(inner: Place, at: number, dies = false) {
    this.#inner = inner;
    this.#at = at;
    this.#dies = dies;
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
  append = (path: string, at: number) =>
    this.#step(async (): Promise<FileWriter> => {
      const inner = await this.#inner.append(path, at);
      let length = at;
      this.#open.set(path, at);
      const write = async (bytes: Uint8Array<ArrayBuffer>): Promise<void> => {
        await inner.write(bytes);
        length += bytes.length;
      };
      return {
        write: (bytes) =>
          this.#step(
            () => write(bytes),
            () => write(bytes.slice(0, bytes.length >> 1)),
          ),
        flush: () =>
          this.#step(async () => {
            await inner.flush();
            this.#open.set(path, length);
          }),
        close: async () => {
          await inner.close();
          if (!this.#isDead()) this.#open.delete(path);
          await this.#loseUnflushed();
        },
      };
    });

  #isDead(): boolean {
    return this.#dies && this.#at > 0 && this.operations >= this.#at;
  }

  async #loseUnflushed(): Promise<void> {
    for (const [path, flushed] of this.#isDead() ? this.#open : []) {
      const bytes = await this.#inner.read(path);
      if (bytes !== null) await this.#inner.write(path, bytes.fill(0, flushed));
    }
  }

  async #step<T>(work: () => Promise<T>, half?: () => Promise<void>): Promise<T> {
    const wasDead = this.#isDead();
    this.operations += 1;
    if (this.operations !== this.#at && !wasDead) return work();
    if (!wasDead) await half?.();
    throw new Failure('StorageFull', `operation ${this.#at}`);
  }
}

/** No pauses, and a journal that is written every few pieces. */
export const quick: InstallOptions = { sleep: () => Promise.resolve(), flushBytes: 2 * PIECE };

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
    return openPackage(url, place, fetchFn, (event) => this.progress.push(event), quick);
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

  /** Names of the files that lie here whole and right, READY or not. */
  async verifiedFiles(): Promise<string[]> {
    const [key] = await this.place.list('models');
    const names: string[] = [];
    for (const { name, sha256: sha } of key === undefined ? [] : this.listed()) {
      const bytes = await this.place.read(`models/${key}/${name}`);
      if (bytes !== null && (await sha256(bytes)) === sha) names.push(name);
    }
    return names;
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
