import {
  INSTALLED,
  type DeviceCheck,
  type InstallResult,
  type InstallSource,
  type LoadProgress,
  type ModelEntry,
  type ModelsApi,
  type StorageReport,
} from '../../worker/api.ts';
import type { Loader } from '../loader.svelte.ts';
import { bundledFolder, chooseModel } from '../model-folder.ts';
import { type Trouble, troubleOf } from '../trouble.ts';
import { Rate } from './rate.ts';

/** An install or an export that is under way. */
export interface Work {
  readonly kind: 'install' | 'export';
  readonly progress: LoadProgress | null;
  readonly bytesPerSecond: number | null;
  /** What is left at this speed; null while nobody can know. */
  readonly secondsLeft: number | null;
  readonly stopping: boolean;
}

/** What of a browser is asked about storage. */
export interface Persistence {
  persist?(): Promise<boolean>;
}

export interface ModelsOptions {
  readonly api: ModelsApi;
  readonly loader: Loader;
  readonly page: string; // the address of the page
  readonly storage: Persistence;
  readonly now?: () => number;
}

/** The packages of this device, and what is being done with them. */
export class Models {
  entries = $state.raw<readonly ModelEntry[] | null>(null);
  storage = $state.raw<StorageReport | null>(null);
  work = $state.raw<Work | null>(null);
  trouble = $state.raw<Trouble | null>(null);
  check = $state.raw<DeviceCheck | null>(null);
  checkTrouble = $state.raw<Trouble | null>(null);
  isChecking = $state(false);
  /** The browser was asked to keep everything, and did not promise it. */
  refused = $state(false);
  /** The folder of the last export. */
  exported = $state<string | null>(null);
  #isUnwanted = false;
  readonly #options: ModelsOptions;

  constructor(options: ModelsOptions) {
    this.#options = options;
  }

  /** Looks again at what is here. */
  async refresh(): Promise<void> {
    try {
      const { api, page } = this.#options;
      this.entries = await api.list([bundledFolder(page)]);
      this.storage = await api.storage();
    } catch (error) {
      this.trouble = troubleOf(error);
      this.entries ??= [];
    }
  }

  install(source: InstallSource): Promise<boolean> {
    return this.#transfer((tell) => this.#options.api.install(source, tell));
  }

  resume(entry: ModelEntry): Promise<boolean> {
    return this.#transfer((tell) => this.#options.api.resume(entry.key, tell));
  }

  /** Stops what is under way; what is here stays. */
  async pause(): Promise<void> {
    if (this.work === null || this.work.stopping) return;
    this.work = { ...this.work, stopping: true };
    await this.#options.api.pause();
  }

  /** Stops an install and removes what has come. */
  async discard(): Promise<void> {
    this.#isUnwanted = true;
    await this.pause();
  }

  /** Removes a package. Where it is the one in use, the page has none from then on. */
  async remove(entry: ModelEntry): Promise<void> {
    const { api, loader } = this.#options;
    this.trouble = null;
    try {
      await api.remove(entry.key);
      if (this.isUsed(entry)) {
        chooseModel(null);
        loader.unload();
      }
    } catch (error) {
      this.trouble = troubleOf(error);
    }
    await this.refresh();
  }

  /** Uses another package from now on, in this visit and later ones. */
  async use(entry: ModelEntry): Promise<void> {
    const { loader } = this.#options;
    const address = entry.state === 'ready' ? INSTALLED + entry.key : (entry.source?.from ?? null);
    if (address === null) return;
    chooseModel(address);
    await loader.use(address);
    await this.refresh();
  }

  async exportTo(entry: ModelEntry, folder: FileSystemDirectoryHandle): Promise<void> {
    this.exported = null;
    await this.#run('export', async (tell) => {
      this.exported = await this.#options.api.exportTo(entry.key, folder, tell);
    });
  }

  /** Asks the browser to clear nothing by itself. */
  async persist(): Promise<void> {
    const granted = (await this.#options.storage.persist?.()) ?? false;
    this.refused = !granted;
    await this.refresh();
  }

  /** Computes something on this device; asks for the memory of a model where one is named. */
  async probe(bytes: number | null): Promise<void> {
    this.isChecking = true;
    this.checkTrouble = null;
    try {
      this.check = await this.#options.api.check(bytes);
    } catch (error) {
      this.check = null;
      this.checkTrouble = troubleOf(error);
    } finally {
      this.isChecking = false;
    }
  }

  isUsed(entry: ModelEntry): boolean {
    const { loader } = this.#options;
    if (loader.phase !== 'ready') return false;
    return loader.address === INSTALLED + entry.key || loader.address === entry.source?.from;
  }

  async #transfer(
    work: (tell: (progress: LoadProgress) => void) => Promise<InstallResult>,
  ): Promise<boolean> {
    let isReady = false;
    this.#isUnwanted = false;
    await this.#run('install', async (tell) => {
      const { state, key } = await work(tell);
      isReady = state === 'ready';
      if (this.#isUnwanted && !isReady && key !== null) await this.#options.api.remove(key);
    });
    return isReady;
  }

  async #run(
    kind: Work['kind'],
    work: (tell: (progress: LoadProgress) => void) => Promise<void>,
  ): Promise<void> {
    if (this.work !== null) return;
    const now = this.#options.now ?? (() => performance.now());
    const rate = new Rate();
    this.trouble = null;
    this.work = { kind, progress: null, bytesPerSecond: null, secondsLeft: null, stopping: false };
    try {
      await work((progress) => {
        if (this.work === null) return;
        if (progress.phase === 'download' || kind === 'export') rate.see(progress.bytesDone, now());
        const { bytesPerSecond } = rate;
        const left = progress.bytesTotal - progress.bytesDone;
        const secondsLeft = bytesPerSecond === null ? null : left / bytesPerSecond;
        this.work = { ...this.work, progress, bytesPerSecond, secondsLeft };
      });
    } catch (error) {
      const trouble = troubleOf(error);
      if (trouble.name !== 'Cancelled') this.trouble = trouble;
    } finally {
      this.work = null;
    }
    await this.refresh();
  }
}
