import { chooseBackend, type AdapterFacts } from '../engine/choice.ts';
import { Failure, failureName, partOfApp } from '../failure.ts';
import { UrlOrigin } from '../store/download.ts';
import { install, type Exclusive } from '../store/install.ts';
import {
  bundledModel,
  isKey,
  readModel,
  readModels,
  removeModel,
  type StoredModel,
  sweep,
  usedByAll,
  usedBytes,
  type WhileFree,
} from '../store/library.ts';
import { OpfsPlace } from '../store/opfs.ts';
import type { Origin } from '../store/origin.ts';
import type { Place } from '../store/place.ts';
import type {
  DeviceCheck,
  InstallResult,
  InstallSource,
  LoadProgress,
  ModelEntry,
  ModelsApi,
  StorageReport,
} from './api.ts';
import { Pipe } from './pipe.ts';

/** A callback of the page: across the border it answers with a promise. */
type Listener<T> = (event: T) => void | Promise<void>;

/** What of the engine's side is used here. */
export interface ModelHost {
  readonly openKey: string | null;
  adapter(): Promise<AdapterFacts | null>;
  close(): Promise<void>;
}

const lockOf = (key: string): string => `pediatricsgpt-model:${key}`;

/** Runs work while no other window touches a package; waits for whoever does. */
export const exclusive: Exclusive = (key, work) => navigator.locks.request(lockOf(key), work);

const whileFree: WhileFree = (key, work) =>
  navigator.locks.request(lockOf(key), { ifAvailable: true }, async (lock) => {
    if (lock !== null) await work();
    return lock !== null;
  });

export const get = (address: string, init: RequestInit): Promise<Response> => fetch(address, init);

/** The worker's side of ModelsApi. */
export class Models implements ModelsApi {
  readonly #host: ModelHost;
  readonly #open: () => Promise<Place>;
  #running: AbortController | null = null;

  constructor(host: ModelHost, open: () => Promise<Place> = () => OpfsPlace.open()) {
    this.#host = host;
    this.#open = open;
  }

  async list(bundled: readonly string[]): Promise<readonly ModelEntry[]> {
    const place = await this.#open();
    await sweep(place, whileFree);
    const adapter = await this.#host.adapter();
    const here = await readModels(place);
    const entries: ModelEntry[] = [];
    for (const model of here) entries.push(await entryOf(place, model, adapter));
    for (const url of bundled) {
      if (entries.some(({ source }) => source?.kind === 'url' && source.from === url)) continue;
      const found = await bundledModel(new UrlOrigin(inSite(url), get));
      if (found === null || here.some(({ key }) => key === found.key)) continue;
      entries.push({ ...(await entryOf(place, found, adapter)), state: 'available' });
    }
    return entries;
  }

  async install(source: InstallSource, onProgress: Listener<LoadProgress>): Promise<InstallResult> {
    return this.#alone((signal) => this.#install(() => originOf(source), onProgress, signal));
  }

  async resume(key: string, onProgress: Listener<LoadProgress>): Promise<InstallResult> {
    const model = await readModel(await this.#open(), key);
    const source = model?.state?.source;
    if (model === null) throw new Failure('NoModel', `${key} is not here`);
    if (source?.kind !== 'url') throw new Failure('BadFolder', `${key}: pick its folder again`);
    return this.install({ kind: 'url', url: source.url }, onProgress);
  }

  pause(): Promise<void> {
    this.#running?.abort();
    return Promise.resolve();
  }

  async remove(key: string): Promise<void> {
    if (!isKey(key)) throw new Error(`${key} is no key of a package`);
    const place = await this.#open();
    if (this.#host.openKey === key) await this.#host.close();
    const free = await whileFree(key, () => removeModel(place, key));
    if (!free) throw new Failure('Busy', `${key} is being installed`);
  }

  async exportTo(
    key: string,
    folder: FileSystemDirectoryHandle,
    onProgress: Listener<LoadProgress>,
  ): Promise<string> {
    const place = await this.#open();
    const { exportPackage } = await partOfApp(import('../store/export.ts'));
    return this.#alone(async (signal) => {
      const pipe = new Pipe(onProgress, newer);
      const push = (progress: LoadProgress) => pipe.push(progress);
      const name = await exclusive(key, () => exportPackage(key, place, folder, push, signal));
      await pipe.flush();
      return name;
    });
  }

  async storage(): Promise<StorageReport> {
    const { usage, quota } = await navigator.storage.estimate();
    return {
      usedBytes: await usedByAll(await this.#open()),
      persisted: await navigator.storage.persisted(),
      estimate: usage === undefined || quota === undefined ? null : { usage, quota },
    };
  }

  async check(bytes: number | null): Promise<DeviceCheck> {
    const { checkDevice } = await partOfApp(import('./device-check.ts'));
    return checkDevice(navigator.gpu, bytes);
  }

  async #install(
    from: () => Promise<Origin>,
    onProgress: Listener<LoadProgress>,
    signal: AbortSignal,
  ): Promise<InstallResult> {
    const pipe = new Pipe(onProgress, newer);
    let key: string | null = null;
    const onKey = (known: string): void => void (key = known);
    try {
      const place = await this.#open();
      const push = (progress: LoadProgress) => pipe.push(progress);
      await install(await from(), place, push, { exclusive, signal, onKey });
    } catch (error) {
      if (failureName(error) !== 'Cancelled') throw error;
      await pipe.flush();
      return { key, state: 'paused' };
    }
    await pipe.flush();
    return { key, state: 'ready' };
  }

  async #alone<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#running !== null) throw new Failure('Busy', 'one install or export at a time');
    const running = new AbortController();
    this.#running = running;
    try {
      return await work(running.signal);
    } finally {
      this.#running = null;
    }
  }
}

/** Folders are read, and written, by parts of their own: most people never need them. */
async function originOf(source: InstallSource): Promise<Origin> {
  if (source.kind === 'url') return new UrlOrigin(inSite(source.url), get);
  const { FolderOrigin } = await partOfApp(import('../store/folder.ts'));
  if (source.kind === 'folder') return FolderOrigin.ofHandle(source.folder);
  return FolderOrigin.ofFiles(source.files);
}

/**
 * The folder's address, as the store knows it.
 * @throws Failure OtherOrigin: the page's policy lets it speak to its own site only
 */
function inSite(url: string): string {
  const folder = new URL(url);
  if (folder.origin !== location.origin) {
    throw new Failure('OtherOrigin', `${folder.origin} is not ${location.origin}`);
  }
  if (!folder.pathname.endsWith('/')) throw new Error(`${url} is no folder`);
  return folder.href;
}

/** Of two steps of one phase only the newer counts. */
function newer(older: LoadProgress, next: LoadProgress): LoadProgress | null {
  return older.phase === next.phase ? next : null;
}

async function entryOf(
  place: Place,
  model: StoredModel,
  adapter: AdapterFacts | null,
): Promise<ModelEntry> {
  const { key, manifest, manifestBytes, ready, state } = model;
  const { config, tensors, files } = manifest;
  const { layers, capacity, kvHeads, headDim } = config;
  const count = (shape: readonly number[]) => shape.reduce((product, one) => product * one, 1);
  const weights = tensors
    .flatMap(({ blocks }) => blocks)
    .reduce((sum, { bytes }) => sum + bytes, 0);
  const cpu = isRunBy('cpu', null, model);
  const auto = isRunBy('auto', adapter, model);
  return {
    key,
    id: manifest.id,
    name: manifest.name,
    licence: manifest.licence,
    parameters: tensors.reduce((sum, { shape }) => sum + count(shape), 0),
    capacity,
    state: ready ? 'ready' : 'partial',
    paused: state?.paused === true,
    bytes: files.reduce((sum, file) => sum + file.bytes, manifestBytes.length),
    usedBytes: await usedBytes(place, key),
    memoryBytes: weights + 2 * layers * capacity * kvHeads * headDim * 4,
    runs: auto ?? 'none',
    cpu: cpu !== null,
    source:
      state === null
        ? null
        : state.source.kind === 'url'
          ? { kind: 'url', from: state.source.url }
          : { kind: 'folder', from: state.source.name },
  };
}

/** What would compute a package; null where nothing here can. */
function isRunBy(
  asked: 'auto' | 'cpu',
  adapter: AdapterFacts | null,
  { manifest }: StoredModel,
): 'wgsl' | 'onnx' | null {
  try {
    return chooseBackend(asked, adapter, manifest).first;
  } catch (error) {
    if (failureName(error) === 'CpuLimit') return null;
    throw error;
  }
}
