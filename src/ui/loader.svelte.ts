import { Failure, failureName } from '../failure.ts';
import {
  INSTALLED,
  type BackendChoice,
  type DeviceReport,
  type GenerateResult,
  type LoadProgress,
  type ModelInfo,
  type PageEngine,
} from '../worker/api.ts';
import { OncePerFrame } from './frame.ts';
import { chooseModel } from './model-folder.ts';
import { type Care, cares, type RiskyPhase, risk } from './risk.ts';
import { type Trouble, troubleOf } from './trouble.ts';
import { loadStep, Watch } from './watch.svelte.ts';

/** `lent`: let go of, since something else needs its place; `stopped`: by the person, while it loaded. */
export type LoaderPhase = 'starting' | 'loading' | 'ready' | 'failed' | 'stopped' | 'lent';

/** The one model of the page: how far it is, what it is, or why it is not there. */
export class Loader {
  phase = $state<LoaderPhase>('starting');
  progress = $state.raw<LoadProgress | null>(null);
  info = $state.raw<ModelInfo | null>(null);
  device = $state.raw<DeviceReport | null>(null);
  trouble = $state.raw<Trouble | null>(null);
  /** What died, so that the model is run with more care than usual: the page in a phase, or the worker. */
  carefulSince = $state.raw<RiskyPhase | 'worker' | null>(null);
  care = $state.raw<Care>('usual');
  /** The chosen package is gone, and another edition of it has taken its place. */
  isOtherEdition = $state(false);
  /** The person has stopped the load, and its next step will end it. */
  isStopping = $state(false);
  #looked = false;
  /** The worker died once in this visit and was started anew. */
  #hasRestarted = false;
  /** Chosen since the page was opened. */
  #chosen: string | null = null;
  #address = $state<string | null>(null);
  /** Counts loads: what belongs to an earlier one says no more. */
  #turn = 0;
  #isRenewing = false;
  readonly #engine: PageEngine;
  readonly #folder: () => string;
  readonly #backend: () => BackendChoice;
  readonly #request: ((run: () => void) => void) | undefined;
  readonly #watch: Watch;

  /**
   * `folder` gives the URL of the package's folder, or throws a Failure; `backend` what shall
   * compute; `watch` notices a load that does not move.
   */
  constructor(
    engine: PageEngine,
    folder: () => string,
    backend: () => BackendChoice = () => 'auto',
    request?: (run: () => void) => void,
    watch = new Watch(),
  ) {
    this.#engine = engine;
    this.#folder = folder;
    this.#backend = backend;
    this.#request = request;
    this.#watch = watch;
  }

  /** Looks at the device and loads the model. Resolves when it is there or has failed. */
  async start(): Promise<void> {
    if (this.#isTaken || this.phase === 'ready') return;
    if (!this.#looked) {
      this.#looked = true;
      const turn = this.#turn;
      const death = await risk.death();
      if (turn !== this.#turn) return; // something else is loaded by now
      if (death !== null && !this.#takeLess(death.phase, death.care)) {
        // On the CPU too: what comes next is the person's choice.
        this.#fail(new Failure('WorkerLost', `the page died on the CPU: ${death.phase}`));
        return;
      }
    }
    await this.#load();
  }

  /** Loads the model the usual way although something died. */
  async startUsual(): Promise<void> {
    if (this.#isTaken || this.care === 'usual') return;
    this.care = 'usual';
    this.carefulSince = null;
    await this.#load();
  }

  /** The address of the model that is loaded, or was tried last; null before. */
  get address(): string | null {
    return this.#address;
  }

  /** The model runs, or failed, in another way than it was meant to: there is something to say. */
  get isOtherwise(): boolean {
    const isSettled = this.phase === 'ready' || this.phase === 'failed';
    const hasFallen = (this.info?.fellBack.length ?? 0) > 0;
    return isSettled && (this.care !== 'usual' || this.isOtherEdition || hasFallen);
  }

  /** Loads another model in the place of this one. */
  async use(address: string): Promise<void> {
    if (this.phase === 'loading') return;
    this.#chosen = address;
    if (this.phase === 'lent' || this.#isRenewing) return; // loaded when the place is free again
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
    if (this.care === 'cpu') this.care = 'careful'; // the person chooses what computes
    await this.#load();
  }

  /** Ends the load at its next step. What is stored of the package stays, for when it is loaded again. */
  async stop(): Promise<void> {
    if (this.isStopping || (this.phase !== 'starting' && this.phase !== 'loading')) return;
    this.isStopping = true;
    if (this.phase !== 'loading') return; // it looks at the device, and then asks whether to go on
    try {
      await this.#engine.stop();
    } catch (error) {
      troubleOf(error); // a worker that broke: the load says so
    }
  }

  /** Lets go of the model, so that another may have its place; false while it is being loaded. */
  async lend(): Promise<boolean> {
    if (this.phase === 'lent') return true;
    if (this.phase === 'starting' || this.phase === 'loading') return false;
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

  /** Ends the worker, with whatever it does or does not do, and loads the model in another one. */
  async renew(): Promise<void> {
    if (this.#isRenewing || this.phase === 'lent') return;
    this.#isRenewing = true;
    this.#turn += 1;
    this.phase = 'starting';
    this.progress = null;
    const isFree = await this.#engine.renew();
    this.#isRenewing = false;
    await this.#load(!isFree);
  }

  get #isTaken(): boolean {
    return this.phase === 'loading' || this.phase === 'lent' || this.#isRenewing;
  }

  async #load(takeOver = false): Promise<void> {
    const turn = (this.#turn += 1);
    const isOver = (): boolean => turn !== this.#turn;
    this.phase = 'starting';
    this.trouble = null;
    this.progress = null;
    this.isOtherEdition = false;
    let latest: LoadProgress | null = null;
    let leave = (): void => undefined;
    risk.care = this.care;
    const paint = new OncePerFrame(() => {
      if (this.phase === 'loading' && !isOver()) this.progress = latest;
    }, this.#request);
    try {
      const folder = this.#chosen ?? this.#folder();
      this.#address = folder;
      const backend = this.care === 'cpu' ? 'cpu' : this.#backend();
      const info = await this.#watch.during('load', async (heard) => {
        const device = await this.#engine.probe();
        if (isOver()) return null;
        if (this.isStopping) throw new Failure('Cancelled', 'the load was stopped');
        this.device = device;
        if (backend === 'webgpu' && !device.webgpu) {
          throw new Failure('NoWebGpu', 'no WebGPU adapter');
        }
        this.phase = 'loading';
        leave = risk.enter('load');
        const onProgress = (progress: LoadProgress): void => {
          heard(loadStep(progress));
          latest = progress;
          paint.ask();
        };
        const careful = this.care !== 'usual';
        const options = { careful, backend, ...(takeOver && { takeOver }) };
        return this.#engine.open(folder, onProgress, options);
      });
      if (isOver() || info === null) return;
      this.info = info;
      const { insteadKey } = info;
      if (insteadKey !== undefined) {
        this.isOtherEdition = true;
        this.#address = INSTALLED + insteadKey;
        this.#chosen = this.#address;
        chooseModel(this.#address);
      }
      this.phase = 'ready';
      void this.#watchDevice(turn);
    } catch (error) {
      if (!isOver()) this.#break(error);
    } finally {
      leave();
      if (!isOver()) this.isStopping = false;
    }
  }

  async #watchDevice(turn: number): Promise<void> {
    try {
      const reason = await this.#engine.lost();
      if (turn === this.#turn && this.phase !== 'lent') {
        this.#fail(new Failure('DeviceLost', reason));
      }
    } catch (error) {
      // Lent: nothing is lost, it is loaded anew when it comes back.
      if (turn !== this.#turn || this.phase === 'lent') return;
      this.#break(error);
      if (failureName(error) !== 'WorkerLost' || this.#hasRestarted) return;
      this.#hasRestarted = true; // once: a device without enough memory would go on like this
      await this.#load();
    }
  }

  /** The next load asks for less than what died. False where there is nothing less. */
  #takeLess(since: RiskyPhase | 'worker', before: Care): boolean {
    const next = cares[cares.indexOf(before) + 1];
    this.carefulSince = since;
    this.care = next ?? before;
    return next !== undefined;
  }

  /** As `#fail`; where the worker died, the next one takes less. */
  #break(error: unknown): void {
    this.#fail(error);
    if (failureName(error) === 'WorkerLost') this.#takeLess('worker', this.care);
  }

  #fail(error: unknown): void {
    const isStopped = this.isStopping && failureName(error) === 'Cancelled';
    this.isStopping = false;
    if (isStopped) {
      this.phase = 'stopped';
      return;
    }
    this.phase = 'failed';
    this.trouble = troubleOf(error);
  }
}
