import { Failure, failureName } from '../failure.ts';
import { sha256 } from '../format/hash.ts';
import { parseManifest } from '../format/layout.ts';
import type { FileInfo, Manifest } from '../format/manifest.ts';
import type { PackageSource } from '../format/source.ts';
import type { LoadProgress } from '../worker/api.ts';
import { downloadFile, downloadManifest, type Fetch } from './download.ts';
import type { Place } from './place.ts';

/**
 * Model packages that outlive the page:
 *
 *   models/NAME-HASH@SHA/manifest.json   the exact bytes that came; HASH is of the address
 *   models/NAME-HASH@SHA/shard-00000.bin ...
 *   models/NAME-HASH@SHA/READY           the manifest's SHA-256, written after every file is verified
 *
 * Only what READY vouches for is used without the network, and even then each file is hashed again
 * whenever it is read.
 */

const MODELS = 'models';
const MANIFEST = 'manifest.json';
const READY = 'READY';

/** Looks at a manifest; throws where the package is of no use here. */
export type AcceptManifest = (manifest: Manifest) => void;

export interface StoredPackage {
  readonly source: PackageSource;
  /** Files that came over the network; grows when `source` has to fetch a bad one again. */
  readonly fetched: readonly string[];
  readonly manifestSha: string;
}

/**
 * Makes the package at `url` (a folder, ending in '/') ready for use: from `place` without any
 * request where it is complete there, else over the network, keeping the files that are already
 * here and right. `accept` sees the manifest before any other file is fetched, and may throw.
 * @throws Failure NotFound, NotAShard, ShardTruncated, ShardCorrupt, Offline, BadManifest,
 * StorageFull, StorageBlocked; what is verified by then stays for the next time
 */
export async function openPackage(
  url: string,
  place: Place,
  fetchFn: Fetch,
  onProgress: (progress: LoadProgress) => void,
  accept: AcceptManifest = () => undefined,
): Promise<StoredPackage> {
  const key = await keyOf(url);
  const kept = await findReady(place, key);
  const found = kept ?? (await fetchManifest(url, key, fetchFn, onProgress));
  accept(found.manifest);
  const files = new PackageFiles(url, found, place, fetchFn, onProgress);
  await files.sweep(key);
  if (kept === null) await files.complete();
  return { source: files, fetched: files.fetched, manifestSha: found.sha };
}

interface FoundManifest {
  readonly folder: string;
  readonly sha: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly manifest: Manifest;
}

async function keyOf(url: string): Promise<string> {
  const name = new URL(url).pathname.split('/').at(-2) ?? '';
  const readable = name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  const hash = await sha256(new TextEncoder().encode(url));
  return `${readable}-${hash.slice(0, 16)}`;
}

const folderOf = (key: string, sha: string): string => `${MODELS}/${key}@${sha.slice(0, 16)}`;

/** The complete package of this key, or null where there is none that can be trusted. */
async function findReady(place: Place, key: string): Promise<FoundManifest | null> {
  for (const name of await place.list(MODELS)) {
    if (!name.startsWith(`${key}@`)) continue;
    const folder = `${MODELS}/${name}`;
    const ready = await place.read(`${folder}/${READY}`);
    const bytes = ready && (await place.read(`${folder}/${MANIFEST}`));
    if (ready === null || bytes === null) continue;
    const sha = await sha256(bytes);
    const manifest = sha === new TextDecoder().decode(ready) ? readManifest(bytes) : null;
    if (manifest !== null) return { folder, sha, bytes, manifest };
  }
  return null;
}

/** Null for a manifest that this edition of the app no longer reads: the server has a newer one. */
function readManifest(bytes: Uint8Array): Manifest | null {
  try {
    return parseManifest(bytes);
  } catch (error) {
    if (failureName(error) === 'BadManifest') return null;
    throw error;
  }
}

async function fetchManifest(
  url: string,
  key: string,
  fetchFn: Fetch,
  onProgress: (progress: LoadProgress) => void,
): Promise<FoundManifest> {
  const step = { phase: 'manifest', file: MANIFEST, network: true } as const;
  onProgress({ ...step, bytesDone: 0, bytesTotal: 0 });
  const bytes = await downloadManifest(fetchFn, new URL(MANIFEST, url).href);
  const manifest = parseManifest(bytes);
  onProgress({ ...step, bytesDone: bytes.length, bytesTotal: bytes.length });
  const sha = await sha256(bytes);
  return { folder: folderOf(key, sha), sha, bytes, manifest };
}

/** The files of one package in one folder. */
class PackageFiles implements PackageSource {
  readonly fetched: string[] = [];
  readonly #url: string;
  readonly #found: FoundManifest;
  readonly #files: ReadonlyMap<string, FileInfo>;
  readonly #bytesTotal: number;
  readonly #place: Place;
  readonly #fetch: Fetch;
  readonly #onProgress: (progress: LoadProgress) => void;

  constructor(
    url: string,
    found: FoundManifest,
    place: Place,
    fetchFn: Fetch,
    onProgress: (progress: LoadProgress) => void,
  ) {
    this.#url = url;
    this.#found = found;
    this.#files = new Map(found.manifest.files.map((file) => [file.name, file]));
    this.#bytesTotal = found.manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    this.#place = place;
    this.#fetch = fetchFn;
    this.#onProgress = onProgress;
  }

  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    if (name === MANIFEST) return this.#found.bytes.slice();
    const file = this.#files.get(name);
    if (file === undefined) throw new Failure('NotFound', `${name} is not in the manifest`);
    return (await this.#stored(file)) ?? this.#replace(file, this.#bytesTotal - file.bytes);
  }

  /** Removes other editions of this package, and files that nobody knows. */
  async sweep(key: string): Promise<void> {
    const { folder } = this.#found;
    for (const name of await this.#place.list(MODELS)) {
      const path = `${MODELS}/${name}`;
      const stray = !/^[a-z0-9-]+@[0-9a-f]{16}$/.test(name);
      const older = name.startsWith(`${key}@`) && path !== folder;
      if (stray || older) await this.#place.remove(path);
    }
    for (const name of await this.#place.list(folder)) {
      const known = name === MANIFEST || name === READY || this.#files.has(name);
      if (!known) await this.#place.remove(`${folder}/${name}`);
    }
  }

  /** Brings every file here, then says so with READY. */
  async complete(): Promise<void> {
    await this.#place.write(this.#path(MANIFEST), this.#found.bytes);
    const missing: FileInfo[] = [];
    let done = 0;
    for (const file of this.#files.values()) {
      this.#report('check', done, file.name);
      if ((await this.#stored(file)) === null) missing.push(file);
      else done += file.bytes;
    }
    if (missing.length > 0) await this.#place.reserve(this.#bytesTotal - done);
    for (const file of missing) {
      await this.#replace(file, done);
      done += file.bytes;
    }
    await this.#place.write(this.#path(READY), new TextEncoder().encode(this.#found.sha));
  }

  /** The file as it lies here; null where it is missing or not what the manifest says. */
  async #stored(file: FileInfo): Promise<Uint8Array<ArrayBuffer> | null> {
    const path = this.#path(file.name);
    if ((await this.#place.size(path)) !== file.bytes) return null;
    const bytes = await this.#place.read(path);
    return bytes !== null && (await sha256(bytes)) === file.sha256 ? bytes : null;
  }

  /** Fetches the file again and keeps it. `done`: bytes of the package that are here already. */
  async #replace(file: FileInfo, done: number): Promise<Uint8Array<ArrayBuffer>> {
    this.#report('download', done, file.name);
    const url = new URL(file.name, this.#url).href;
    const bytes = await downloadFile(this.#fetch, url, file, (here) => {
      this.#report('download', done + Math.min(here, file.bytes), file.name);
    });
    this.fetched.push(file.name);
    await this.#place.write(this.#path(file.name), bytes);
    return bytes;
  }

  #path(name: string): string {
    return `${this.#found.folder}/${name}`;
  }

  #report(phase: 'check' | 'download', bytesDone: number, file: string): void {
    const network = phase === 'download';
    this.#onProgress({ phase, bytesDone, bytesTotal: this.#bytesTotal, file, network });
  }
}
