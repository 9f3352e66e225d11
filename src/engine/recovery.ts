import { Failure, failureName, partOfApp } from '../failure.ts';
import type { Manifest } from '../format/manifest.ts';
import { calibrate } from '../gpu/calibrate.ts';
import type { CalibrationStore } from '../gpu/calibration-store.ts';
import { hasEightBits, plainer, type GpuDevice } from '../gpu/device.ts';
import { trialShapeOf } from '../model/config.ts';
import type { FellBack, ModelInfo } from '../worker/api.ts';
import type { Backend } from './backend.ts';
import type { OnnxRuntime } from './backends/onnx.ts';
import { openWgsl } from './backends/wgsl.ts';
import { checkKnownAnswer } from './known-answer.ts';

/** A backend whose numbers were checked. */
export interface Checked {
  readonly backend: Backend;
  readonly selfTest: ModelInfo['selfTest'];
  /** What was tried before it and left, in its order. */
  readonly fellBack?: readonly FellBack[];
}

/** Why an engine goes on with another backend than it had. */
export type RecoveryCause = 'WrongNumbers' | 'DeviceLost';

/** Makes the backends of one engine: the first, and another where that one fails. */
export interface BackendMaker {
  /**
   * The first one. Where 8 bits or f16 compute other numbers than recorded, the next more exact is taken.
   * @throws Failure as `openWgsl` and `checkKnownAnswer`
   */
  first(): Promise<Checked>;
  /** Whether another backend may help after this error. */
  helps(error: unknown): RecoveryCause | null;
  /** Another backend after an error that `helps` knows. @throws Failure where it fails as well */
  another(cause: RecoveryCause): Promise<Checked>;
}

/** A maker on the GPU, which can tell what it has tried. */
export interface GpuMaker extends BackendMaker {
  /** What was left so far, and at last what it makes now, which failed for this reason. */
  triedUntil(because: FellBack['because']): readonly FellBack[];
}

/** What every kind of backend is made of. */
export interface MakerParts {
  readonly manifest: Manifest;
  readonly read: (file: string) => Promise<Uint8Array>;
  readonly selfTest: boolean;
  /** Ends what is made at its next step, with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  readonly onUpload: (progress: { bytesDone: number; bytesTotal: number }) => void;
  readonly onSelfTest: () => void;
}

export interface WgslMakerParts extends MakerParts {
  readonly gpu: GpuDevice;
  /** A new device after a loss; undefined where there is no second try. */
  readonly renewGpu: (() => Promise<GpuDevice>) | undefined;
  /** Chooses kernels by measurement and keeps what was measured; undefined takes the usual ones. */
  readonly measurements: CalibrationStore | undefined;
}

/** Backends of our own shaders: 8 bits where asked for, f16, then f32; one new device after a loss, no second one. */
export class WgslMaker implements GpuMaker {
  readonly #parts: WgslMakerParts;
  #gpu: GpuDevice;
  /** What computed wrong numbers before this. */
  #left: readonly FellBack[] = [];
  #renewed = false;

  constructor(parts: WgslMakerParts) {
    this.#parts = parts;
    this.#gpu = parts.gpu;
  }

  first(): Promise<Checked> {
    return this.#down();
  }

  helps(error: unknown): RecoveryCause | null {
    const name = failureName(error);
    if (name === 'WrongNumbers' && plainer(this.#gpu) !== null) return name;
    if (name === 'DeviceLost' && this.#parts.renewGpu && !this.#renewed) return name;
    return null;
  }

  async another(cause: RecoveryCause): Promise<Checked> {
    if (cause === 'WrongNumbers') {
      this.#step(new Failure(cause, 'the backend before this one'));
    } else if (this.#parts.renewGpu) {
      const { variant, cache, tuning } = this.#gpu;
      this.#renewed = true;
      // What was found out about this GPU holds for the new device as well.
      this.#gpu = { ...(await this.#parts.renewGpu()), variant, cache, tuning };
    }
    return this.#down();
  }

  triedUntil(because: FellBack['because']): readonly FellBack[] {
    const { variant } = this.#gpu;
    const from = `WebGPU ${variant}${hasEightBits(this.#gpu) ? ' int8' : ''}`;
    return [...this.#left, { from, because }];
  }

  /** The device as it is, then with the next more exact numbers for as long as they are wrong. */
  async #down(): Promise<Checked> {
    for (;;) {
      try {
        await this.#calibrate();
        return await this.#open();
      } catch (error) {
        this.#step(error);
      }
    }
  }

  /** Goes on to the next more exact numbers. @throws the error where they would not help */
  #step(error: unknown): void {
    const next = plainer(this.#gpu);
    if (failureName(error) !== 'WrongNumbers' || next === null) throw error;
    this.#left = this.triedUntil('WrongNumbers');
    this.#gpu = next;
  }

  async #calibrate(): Promise<void> {
    const { manifest, measurements, signal } = this.#parts;
    if (measurements === undefined) return;
    const shape = trialShapeOf(manifest.config);
    this.#gpu = (await calibrate(this.#gpu, { shape, store: measurements, signal })).gpu;
  }

  async #open(): Promise<Checked> {
    const { manifest, read, onUpload } = this.#parts;
    const backend = await openWgsl(this.#gpu, manifest, read, onUpload);
    return { ...(await proved(backend, this.#parts)), fellBack: this.#left };
  }
}

export interface OnnxMakerParts extends MakerParts {
  readonly runtime: () => Promise<OnnxRuntime>;
}

/** The one backend of the CPU; nothing comes after it. */
export class OnnxMaker implements BackendMaker {
  readonly #parts: OnnxMakerParts;

  constructor(parts: OnnxMakerParts) {
    this.#parts = parts;
  }

  /** @throws Failure as `openOnnx`, the runtime's loader and `checkKnownAnswer` */
  async first(): Promise<Checked> {
    const { manifest, read, onUpload, runtime } = this.#parts;
    // A chunk of its own: most browsers never need it.
    const { openOnnx } = await partOfApp(import('./backends/onnx.ts'));
    return proved(await openOnnx(await runtime(), manifest, read, onUpload), this.#parts);
  }

  helps(): null {
    return null;
  }

  another(cause: RecoveryCause): Promise<never> {
    return Promise.reject(new Failure(cause, 'nothing comes after the CPU'));
  }
}

/** The GPU as long as it works, then the CPU. */
export class FallbackMaker implements BackendMaker {
  readonly #gpu: GpuMaker;
  readonly #cpu: BackendMaker;
  #onGpu = true;

  constructor(gpu: GpuMaker, cpu: BackendMaker) {
    this.#gpu = gpu;
    this.#cpu = cpu;
  }

  first(): Promise<Checked> {
    return this.#orCpu(() => this.#gpu.first());
  }

  helps(error: unknown): RecoveryCause | null {
    if (!this.#onGpu) return this.#cpu.helps(error);
    const name = failureName(error);
    return name === 'WrongNumbers' || name === 'DeviceLost' ? name : null;
  }

  another(cause: RecoveryCause): Promise<Checked> {
    if (!this.#onGpu) return this.#cpu.another(cause);
    const error = new Failure(cause, 'the backend before this one failed');
    return this.#orCpu(() =>
      this.#gpu.helps(error) === null ? Promise.reject(error) : this.#gpu.another(cause),
    );
  }

  /** What the GPU makes; what the CPU makes where the GPU cannot compute this model rightly. */
  async #orCpu(make: () => Promise<Checked>): Promise<Checked> {
    try {
      return await make();
    } catch (error) {
      const name = failureName(error);
      const because = gpuFailures.find((known) => known === name);
      if (because === undefined) throw error;
      this.#onGpu = false;
      return { ...(await this.#cpu.first()), fellBack: this.#gpu.triedUntil(because) };
    }
  }
}

/** Failures of the GPU; those of the package or its storage would meet the CPU as well. */
const gpuFailures: readonly FellBack['because'][] = [
  'WrongNumbers',
  'DeviceLost',
  'DeviceLimit',
  'NoWebGpu',
];

/** A backend that gives the package's known answers; one that does not is disposed of. */
async function proved(
  backend: Backend,
  { manifest, selfTest, onSelfTest, signal }: MakerParts,
): Promise<Checked> {
  try {
    onSelfTest();
    const known = selfTest ? manifest.knownAnswer : null;
    if (known === null) return { backend, selfTest: null };
    return { backend, selfTest: await checkKnownAnswer(backend, known, signal) };
  } catch (error) {
    backend.dispose();
    throw error;
  }
}
