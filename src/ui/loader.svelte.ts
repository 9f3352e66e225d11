import { Failure } from '../failure.ts';
import type { DeviceReport, EngineApi, LoadProgress, ModelInfo } from '../worker/api.ts';
import { OncePerFrame } from './frame.ts';
import { type Trouble, troubleOf } from './trouble.ts';

export type LoaderPhase = 'starting' | 'loading' | 'ready' | 'failed';

/** The one model of the page: how far it is, what it is, or why it is not there. */
export class Loader {
  phase = $state<LoaderPhase>('starting');
  progress = $state.raw<LoadProgress | null>(null);
  info = $state.raw<ModelInfo | null>(null);
  device = $state.raw<DeviceReport | null>(null);
  trouble = $state.raw<Trouble | null>(null);
  readonly #engine: EngineApi;
  readonly #folder: () => string;
  readonly #request: ((run: () => void) => void) | undefined;

  /** `folder` gives the URL of the package's folder, or throws a Failure. */
  constructor(engine: EngineApi, folder: () => string, request?: (run: () => void) => void) {
    this.#engine = engine;
    this.#folder = folder;
    this.#request = request;
  }

  /** Looks at the device and loads the model. Resolves when it is there or has failed. */
  async start(): Promise<void> {
    if (this.phase === 'loading' || this.phase === 'ready') return;
    this.phase = 'starting';
    this.trouble = null;
    this.progress = null;
    let latest: LoadProgress | null = null;
    const paint = new OncePerFrame(() => {
      if (this.phase === 'loading') this.progress = latest;
    }, this.#request);
    try {
      const folder = this.#folder();
      this.device = await this.#engine.probe();
      if (!this.device.webgpu) throw new Failure('NoWebGpu', 'no WebGPU adapter');
      this.phase = 'loading';
      this.info = await this.#engine.open(folder, (progress) => {
        latest = progress;
        paint.ask();
      });
      this.phase = 'ready';
      void this.#watchDevice();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #watchDevice(): Promise<void> {
    try {
      const reason = await this.#engine.lost();
      this.#fail(new Failure('DeviceLost', reason));
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.phase = 'failed';
    this.trouble = troubleOf(error);
  }
}
