import { Failure, failureName } from '../../failure.ts';
import type { Manifest } from '../../format/manifest.ts';
import type { GpuDevice } from '../../gpu/device.ts';
import { Model } from '../../model/model.ts';
import type { Backend, PrefillOptions } from '../backend.ts';

/** How long after an error the device may still say that it was lost. */
const LOST_GRACE_MS = 250;

/** Loads a package's weights onto the GPU. @throws Failure BadPackage, DeviceLimit, DeviceLost */
export async function openWgsl(
  gpu: GpuDevice,
  manifest: Manifest,
  read: (file: string) => Promise<Uint8Array>,
  onProgress: (progress: { bytesDone: number; bytesTotal: number }) => void,
): Promise<Backend> {
  const model = await orLost(gpu, Model.load(gpu, manifest, read, onProgress));
  return new WgslBackend(gpu, model);
}

/** Our own shaders. */
class WgslBackend implements Backend {
  readonly name = 'wgsl';
  readonly #gpu: GpuDevice;
  readonly #model: Model;

  constructor(gpu: GpuDevice, model: Model) {
    this.#gpu = gpu;
    this.#model = model;
  }

  get variant(): Backend['variant'] {
    return this.#gpu.variant;
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
    return orLost(this.#gpu, this.#model.prefill(tokens, options));
  }

  decode(token: number): Promise<Float32Array> {
    return orLost(this.#gpu, this.#model.decode(token));
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
    return orLost(this.#gpu, this.#model.forwardAll(tokens));
  }

  dispose(): void {
    this.#model.dispose();
  }
}

/** An error of a device that is gone is told as that, not as what the last call ran into. */
async function orLost<T>(gpu: GpuDevice, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (failureName(error) !== 'Bug') throw error;
    const grace = new Promise<null>((resolve) => setTimeout(resolve, LOST_GRACE_MS, null));
    const reason = await Promise.race([gpu.lost, grace]);
    if (reason === null) throw error;
    throw new Failure('DeviceLost', reason, { cause: error });
  }
}
