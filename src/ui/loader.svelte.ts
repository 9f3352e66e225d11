import { Failure, failureName } from '../failure.ts';
import {
  INSTALLED,
  type BackendChoice,
  type DeviceReport,
  type EngineApi,
  type GenerateResult,
  type LoadProgress,
  type ModelInfo,
} from '../worker/api.ts';
import { OncePerFrame } from './frame.ts';
import { chooseModel } from './model-folder.ts';
import { diedIn, enterRisk, leaveRisk, type RiskyPhase } from './risk.ts';
import { type Trouble, troubleOf } from './trouble.ts';

/** `lent`: let go of, since something else needs its place. */
export type LoaderPhase = 'starting' | 'loading' | 'ready' | 'failed' | 'lent';

/** The one model of the page: how far it is, what it is, or why it is not there. */
export class Loader {
  phase = $state<LoaderPhase>('starting');
  progress = $state.raw<LoadProgress | null>(null);
  info = $state.raw<ModelInfo | null>(null);
  device = $state.raw<DeviceReport | null>(null);
  trouble = $state.raw<Trouble | null>(null);
  /** The page died in this phase the last time, so the model runs in its most careful way. */
  carefulSince = $state.raw<RiskyPhase | null>(null);
  /** The chosen package is gone, and another edition of it has taken its place. */
  isOtherEdition = $state(false);
  #looked = false;
  /** The worker died once in this visit and was started anew. */
  #hasRestarted = false;
  /** Chosen since the page was opened. */
  #chosen: string | null = null;
  #address = $state<string | null>(null);
  readonly #engine: EngineApi;
  readonly #folder: () => string;
  readonly #backend: () => BackendChoice;
  readonly #request: ((run: () => void) => void) | undefined;

  /**
   * `folder` gives the URL of the package's folder, or throws a Failure; `backend` what shall
   * compute.
   */
  constructor(
    engine: EngineApi,
    folder: () => string,
    backend: () => BackendChoice = () => 'auto',
    request?: (run: () => void) => void,
  ) {
    this.#engine = engine;
    this.#folder = folder;
    this.#backend = backend;
    this.#request = request;
  }

  /** Looks at the device and loads the model. Resolves when it is there or has failed. */
  async start(): Promise<void> {
    if (this.#isTaken || this.phase === 'ready') return;
    if (!this.#looked) this.carefulSince = diedIn();
    this.#looked = true;
    await this.#load();
  }

  /** Loads the model the usual way although the page died the last time. */
  async startUsual(): Promise<void> {
    if (this.#isTaken || this.carefulSince === null) return;
    this.carefulSince = null;
    await this.#load();
  }

  /** The address of the model that is loaded, or was tried last; null before. */
  get address(): string | null {
    return this.#address;
  }

  /** Loads another model in the place of this one. */
  async use(address: string): Promise<void> {
    if (this.phase === 'loading') return;
    this.#chosen = address;
    if (this.phase === 'lent') return; // loaded when the place is free again
    await this.#load();
  }

  /** Takes the model from the window that uses it. */
  async takeOver(): Promise<void> {
    if (this.#isTaken) return;
    await this.#load(true);
  }

  /** The model was removed from this device. */
  unload(): void {
    this.info = null;
    this.#chosen = null;
    this.#fail(new Failure('NoModel', 'the model that was used is removed'));
  }

  /** What computes now: the engine changes it where a GPU fails. */
  ran(ran: GenerateResult['ran']): void {
    if (this.info !== null) this.info = { ...this.info, ...ran };
  }

  /** Loads the model anew, for another choice of what computes. */
  async restart(): Promise<void> {
    if (this.phase === 'starting' || this.#isTaken) return;
    await this.#load();
  }

  /** Lets go of the model, so that another may have its place; false while it is being loaded. */
  async lend(): Promise<boolean> {
    if (this.phase === 'lent') return true;
    if (this.phase !== 'ready' && this.phase !== 'failed') return false;
    this.phase = 'lent';
    try {
      await this.#engine.close();
    } catch (error) {
      troubleOf(error); // a worker that broke holds no model
    }
    return true;
  }

  /** The place is free again: loads the model. */
  async takeBack(): Promise<void> {
    if (this.phase === 'lent') await this.#load();
  }

  get #isTaken(): boolean {
    return this.phase === 'loading' || this.phase === 'lent';
  }

  async #load(takeOver = false): Promise<void> {
    this.phase = 'starting';
    this.trouble = null;
    this.progress = null;
    this.isOtherEdition = false;
    let latest: LoadProgress | null = null;
    const paint = new OncePerFrame(() => {
      if (this.phase === 'loading') this.progress = latest;
    }, this.#request);
    try {
      const folder = this.#chosen ?? this.#folder();
      this.#address = folder;
      const backend = this.#backend();
      this.device = await this.#engine.probe();
      if (backend === 'webgpu' && !this.device.webgpu) {
        throw new Failure('NoWebGpu', 'no WebGPU adapter');
      }
      this.phase = 'loading';
      enterRisk('load');
      const onProgress = (progress: LoadProgress): void => {
        latest = progress;
        paint.ask();
      };
      const careful = this.carefulSince !== null;
      const options = { careful, backend, ...(takeOver && { takeOver }) };
      this.info = await this.#engine.open(folder, onProgress, options);
      const { insteadKey } = this.info;
      if (insteadKey !== undefined) {
        this.isOtherEdition = true;
        this.#address = INSTALLED + insteadKey;
        this.#chosen = this.#address;
        chooseModel(this.#address);
      }
      this.phase = 'ready';
      void this.#watchDevice();
    } catch (error) {
      this.#fail(error);
    } finally {
      leaveRisk();
    }
  }

  async #watchDevice(): Promise<void> {
    try {
      const reason = await this.#engine.lost();
      if (this.phase !== 'lent') this.#fail(new Failure('DeviceLost', reason));
    } catch (error) {
      if (this.phase === 'lent') return; // nothing is lost: it is loaded anew when it comes back
      this.#fail(error);
      if (failureName(error) !== 'WorkerLost' || this.#hasRestarted) return;
      this.#hasRestarted = true; // once: a device without enough memory would go on like this
      await this.#load();
    }
  }

  #fail(error: unknown): void {
    this.phase = 'failed';
    this.trouble = troubleOf(error);
  }
}
