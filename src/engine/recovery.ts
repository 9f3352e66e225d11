import { failureName } from '../failure.ts';
import type { Manifest } from '../format/manifest.ts';
import type { GpuDevice } from '../gpu/device.ts';
import type { ModelInfo } from '../worker/api.ts';
import type { Backend } from './backend.ts';
import { openWgsl } from './backends/wgsl.ts';
import { checkKnownAnswer } from './known-answer.ts';

/** A backend whose numbers were checked. */
export interface Checked {
  readonly backend: Backend;
  readonly selfTest: ModelInfo['selfTest'];
}

/** Why an engine goes on with another backend than it had. */
export type RecoveryCause = 'WrongNumbers' | 'DeviceLost';

/** Makes the backends of one engine: the first, and another where that one fails. */
export interface BackendMaker {
  /**
   * The first one. Where f16 computes other numbers than recorded, f32 is taken instead.
   * @throws Failure as `openWgsl` and `checkKnownAnswer`
   */
  first(): Promise<Checked>;
  /** Whether another backend may help after this error. */
  helps(error: unknown): RecoveryCause | null;
  /** Another backend after an error that `helps` knows. @throws Failure where it fails as well */
  another(cause: RecoveryCause): Promise<Checked>;
}

export interface WgslMakerParts {
  readonly gpu: GpuDevice;
  readonly manifest: Manifest;
  readonly read: (file: string) => Promise<Uint8Array>;
  readonly selfTest: boolean;
  /** A new device after a loss; undefined where there is no second try. */
  readonly renewGpu: (() => Promise<GpuDevice>) | undefined;
  readonly onUpload: (progress: { bytesDone: number; bytesTotal: number }) => void;
  readonly onSelfTest: () => void;
}

/** Backends of our own shaders: f16, then f32; one new device after a loss, no second one. */
export class WgslMaker implements BackendMaker {
  readonly #parts: WgslMakerParts;
  #gpu: GpuDevice;
  #renewed = false;

  constructor(parts: WgslMakerParts) {
    this.#parts = parts;
    this.#gpu = parts.gpu;
  }

  async first(): Promise<Checked> {
    try {
      return await this.#open();
    } catch (error) {
      if (this.helps(error) !== 'WrongNumbers') throw error;
      return this.another('WrongNumbers');
    }
  }

  helps(error: unknown): RecoveryCause | null {
    const name = failureName(error);
    if (name === 'WrongNumbers' && this.#gpu.variant === 'f16') return name;
    if (name === 'DeviceLost' && this.#parts.renewGpu && !this.#renewed) return name;
    return null;
  }

  async another(cause: RecoveryCause): Promise<Checked> {
    const { variant } = this.#gpu;
    if (cause === 'WrongNumbers') {
      this.#gpu = { ...this.#gpu, variant: 'f32' };
    } else if (this.#parts.renewGpu) {
      this.#renewed = true;
      // What was found out about this GPU holds for the new device as well.
      this.#gpu = { ...(await this.#parts.renewGpu()), variant };
    }
    return this.#open();
  }

  async #open(): Promise<Checked> {
    const { manifest, read, onUpload, onSelfTest } = this.#parts;
    const backend = await openWgsl(this.#gpu, manifest, read, onUpload);
    try {
      onSelfTest();
      const known = this.#parts.selfTest ? manifest.knownAnswer : null;
      return { backend, selfTest: known === null ? null : await checkKnownAnswer(backend, known) };
    } catch (error) {
      backend.dispose();
      throw error;
    }
  }
}
