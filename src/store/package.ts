import { Failure, failureName } from '../failure.ts';
import type { FileInfo } from '../format/manifest.ts';
import type { PackageSource } from '../format/source.ts';
import type { LoadProgress } from '../worker/api.ts';
import { UrlOrigin, type Fetch } from './download.ts';
import { install, isCleared, readVerified, type InstallOptions } from './install.ts';
import { Journal } from './journal.ts';
import {
  findReady,
  folderOf,
  MANIFEST,
  READY,
  readModel,
  readModels,
  sweepFolder,
  type StoredModel,
} from './library.ts';
import type { Origin } from './origin.ts';
import type { Place } from './place.ts';
import { receiveDefaults, receiveFile } from './receive.ts';
import { checkStored, packageKeys } from './signed.ts';

/** Packages that are here, as the engine reads them: each file verified, and mended where it can be. */

export interface StoredPackage {
  readonly source: PackageSource;
  readonly key: string;
  /** Files that came over the network; grows when `source` has to fetch a bad one again. */
  readonly fetched: readonly string[];
  readonly manifestSha: string;
}

/**
 * Makes the package at `url` (a folder, ending in '/') ready for use: from `place` without any
 * request where it is complete there, else by installing it. `options.accept` sees the manifest
 * before any other file is fetched, and may throw.
 * @throws Failure as `install`
 */
export async function openPackage(
  url: string,
  place: Place,
  fetchFn: Fetch,
  onProgress: (progress: LoadProgress) => void,
  options: InstallOptions = {},
): Promise<StoredPackage> {
  const kept = await findReady(place, url);
  if (kept !== null && (await isSigned(kept, place, options))) {
    return openStored(kept, place, fetchFn, onProgress, options);
  }
  const installed = await install(new UrlOrigin(url, fetchFn), place, onProgress, options);
  const model = await readModel(place, installed.key);
  if (model === null) throw new Error(`${installed.key} is gone right after its install`);
  return opened(model, place, fetchFn, onProgress, options, installed.fetched);
}

/**
 * Opens a package that is here by its key, without any request. Where it is not, but another edition
 * of it is (installing one removes those before it), that one is opened: see `key` of the result.
 * @throws Failure NoModel where it is not here or not whole, BadSignature, and what `options.accept` throws
 */
export async function openInstalled(
  key: string,
  place: Place,
  fetchFn: Fetch,
  onProgress: (progress: LoadProgress) => void,
  options: InstallOptions = {},
): Promise<StoredPackage> {
  const asked = await readModel(place, key);
  const model = asked?.ready === true ? asked : await otherEdition(place, key);
  if (model === null) throw new Failure('NoModel', `${key} is not here`);
  return openStored(model, place, fetchFn, onProgress, options);
}

/** A whole package of the same id; of several the one from a server, which is the newest there. */
async function otherEdition(place: Place, key: string): Promise<StoredModel | null> {
  const id = key.slice(0, key.lastIndexOf('@'));
  const editions = (await readModels(place)).filter(
    ({ ready, manifest }) => ready && manifest.id === id,
  );
  return editions.find(({ state }) => state?.source.kind === 'url') ?? editions[0] ?? null;
}

/** A package that this build may not use as it is here is asked for again, with its signature. */
async function isSigned(
  { key, manifestBytes }: StoredModel,
  place: Place,
  { keys = packageKeys }: InstallOptions,
): Promise<boolean> {
  try {
    await checkStored(place, folderOf(key), manifestBytes, keys);
    return true;
  } catch (error) {
    if (failureName(error) !== 'BadSignature') throw error;
    return false;
  }
}

async function openStored(
  model: StoredModel,
  place: Place,
  fetchFn: Fetch,
  onProgress: (progress: LoadProgress) => void,
  options: InstallOptions,
): Promise<StoredPackage> {
  const { keys = packageKeys } = options;
  await checkStored(place, folderOf(model.key), model.manifestBytes, keys);
  await options.accept?.(model.manifest, model.manifestBytes);
  await sweepFolder(place, model.key);
  return opened(model, place, fetchFn, onProgress, options, []);
}

function opened(
  model: StoredModel,
  place: Place,
  fetchFn: Fetch,
  onProgress: (progress: LoadProgress) => void,
  options: InstallOptions,
  fetched: readonly string[],
): StoredPackage {
  const source = model.state?.source;
  const origin = source?.kind === 'url' ? new UrlOrigin(source.url, fetchFn) : null;
  const files = new PackageFiles(model, place, origin, onProgress, options, fetched);
  const { key, manifestSha } = model;
  return { source: files, key, fetched: files.fetched, manifestSha };
}

/** The files of one package that READY vouches for. */
class PackageFiles implements PackageSource {
  readonly fetched: string[];
  readonly #model: StoredModel;
  readonly #files: ReadonlyMap<string, FileInfo>;
  readonly #bytesTotal: number;
  readonly #place: Place;
  readonly #origin: Origin | null;
  readonly #onProgress: (progress: LoadProgress) => void;
  readonly #options: InstallOptions;

  constructor(
    model: StoredModel,
    place: Place,
    origin: Origin | null,
    onProgress: (progress: LoadProgress) => void,
    options: InstallOptions,
    fetched: readonly string[],
  ) {
    this.fetched = [...fetched];
    this.#model = model;
    this.#files = new Map(model.manifest.files.map((file) => [file.name, file]));
    this.#bytesTotal = model.manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    this.#place = place;
    this.#origin = origin;
    this.#onProgress = onProgress;
    this.#options = options;
  }

  async read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    if (name === MANIFEST) return this.#model.manifestBytes.slice();
    const file = this.#files.get(name);
    if (file === undefined) throw new Failure('NotFound', `${name} is not in the manifest`);
    const folder = folderOf(this.#model.key);
    return (await readVerified(this.#place, folder, file)) ?? this.#mend(folder, file);
  }

  /** Fetches a file again. Until it is there the package is not whole, and READY does not say so. */
  async #mend(folder: string, file: FileInfo): Promise<Uint8Array<ArrayBuffer>> {
    const place = this.#place;
    const { key, manifestSha } = this.#model;
    if (await isCleared(place, key)) throw new Failure('StorageCleared', `${key} was cleared`);
    await place.remove(`${folder}/${READY}`);
    const origin = this.#origin;
    if (origin === null) {
      throw new Failure('ShardCorrupt', `${file.name} of ${key}: install it again from its folder`);
    }
    const onBytes = (_: FileInfo, bytes: number): void => {
      const bytesDone = this.#bytesTotal - file.bytes + bytes;
      const step = { phase: 'download', network: origin.network } as const;
      this.#onProgress({ ...step, bytesDone, bytesTotal: this.#bytesTotal, file: file.name });
    };
    onBytes(file, 0);
    const { sleep = receiveDefaults.sleep, flushBytes = receiveDefaults.flushBytes } =
      this.#options;
    const signal = this.#options.signal ?? new AbortController().signal;
    const journal = await Journal.begin(place, folder, origin.source);
    const receiver = { place, folder, origin, journal, signal, onBytes, sleep, flushBytes };
    await receiveFile(receiver, file);
    this.fetched.push(file.name);
    const bytes = await readVerified(place, folder, file);
    if (bytes === null) throw new Failure('ShardCorrupt', `${file.name} changed while it was read`);
    await place.write(`${folder}/${READY}`, new TextEncoder().encode(manifestSha));
    return bytes;
  }
}
