import { Failure, failureName } from '../../failure.ts';
import type { Manifest } from '../../format/manifest.ts';
import { hasEightBits, type GpuDevice } from '../../gpu/device.ts';
import { Model } from '../../model/model.ts';
import type { Backend, CacheAccess, PrefillOptions, RunPlan, TokenRun } from '../backend.ts';
import { checkSettings } from '../sampler.ts';

/** How long after an error the device may still say that it was lost. */
const LOST_GRACE_MS = 250;

/** Loads a package's weights onto the GPU. @throws Failure BadPackage, DeviceLimit, DeviceLost */
export async function openWgsl(
  gpu: GpuDevice,
  manifest: Manifest,
  read: (file: string) => Promise<Uint8Array>,
  onProgress: (progress: { bytesDone: number; bytesTotal: number }) => void,
): Promise<Backend> {
  const watch = new LossWatch(gpu);
  const model = await watch.over(Model.load(gpu, manifest, read, onProgress));
  return new WgslBackend(gpu, model, watch);
}

/** Our own shaders. */
class WgslBackend implements Backend {
  readonly name = 'wgsl';
  readonly rows: CacheAccess;
  readonly #gpu: GpuDevice;
  readonly #model: Model;
  readonly #watch: LossWatch;

  constructor(gpu: GpuDevice, model: Model, watch: LossWatch) {
    this.#gpu = gpu;
    this.#model = model;
    this.#watch = watch;
    this.rows = {
      get identity() {
        return `wgsl ${model.program}`;
      },
      bytes: (tokens) => model.cacheBytes(tokens),
      // Nobody waits for it, and the watch is for what is waited for.
      read: (tokens) => model.readCache(tokens),
      write: (rows, tokens) => {
        model.writeCache(rows, tokens);
      },
    };
  }

  get variant(): Backend['variant'] {
    return this.#gpu.variant;
  }

  get eightBits(): boolean {
    return hasEightBits(this.#gpu);
  }

  get longPaths(): boolean {
    const { attentionSlices, matmulFrom } = this.#gpu.tuning;
    return attentionSlices > 1 || Number.isFinite(matmulFrom);
  }

  get adapterName(): string {
    return this.#gpu.adapterName;
  }

  get config(): Backend['config'] {
    return this.#model.config;
  }

  get position(): number {
    return this.#model.position;
  }

  prefill(tokens: readonly number[], options?: PrefillOptions): Promise<Float32Array> {
    return this.#watch.over(this.#model.prefill(tokens, options));
  }

  decode(token: number): Promise<Float32Array> {
    return this.#watch.over(this.#model.decode(token));
  }

  run({ sampling, seed, answer, most }: RunPlan): TokenRun {
    checkSettings(sampling);
    const { presencePenalty = 0, minP = 0, ...others } = sampling;
    const run = this.#model.run({ ...others, presencePenalty, minP, seed }, answer, most);
    return {
      next: () => this.#watch.over(run.next()),
      end: () => this.#watch.over(run.end()),
    };
  }

  truncate(position: number): void {
    this.#model.truncate(position);
  }

  setTask(task: string): number {
    return this.#model.setTask(task);
  }

  setRouted(on: boolean): void {
    this.#model.setRouted(on);
  }

  forwardAll(tokens: readonly number[]): Promise<{ readonly logits: Float32Array }> {
    return this.#watch.over(this.#model.forwardAll(tokens));
  }

  dispose(): void {
    this.#model.dispose();
  }
}

/**
 * Ends work with DeviceLost as soon as the device is: its own promises may never settle then. One
 * piece of work at a time, and one listener for all of them: the device outlives many thousands.
 */
class LossWatch {
  readonly #gpu: GpuDevice;
  #reason: string | null = null;
  #onLoss: (reason: string) => void = () => undefined;

  constructor(gpu: GpuDevice) {
    this.#gpu = gpu;
    void gpu.lost.then((reason) => {
      this.#reason = reason;
      this.#onLoss(reason);
    });
  }

  over<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#onLoss = (reason) => {
        reject(new Failure('DeviceLost', reason));
      };
      if (this.#reason !== null) this.#onLoss(this.#reason);
      work.then(resolve, (error: unknown) => void this.#named(error).then(reject));
    });
  }

  /** An error of a device that is gone is told as that, not as what the last call ran into. */
  async #named(error: unknown): Promise<unknown> {
    if (failureName(error) !== 'Bug') return error;
    const grace = new Promise<null>((resolve) => setTimeout(resolve, LOST_GRACE_MS, null));
    const reason = await Promise.race([this.#gpu.lost, grace]);
    return reason === null ? error : new Failure('DeviceLost', reason, { cause: error });
  }
}
