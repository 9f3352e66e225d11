import type { OnnxRuntime } from '../engine/backends/onnx.ts';
import { chooseBackend, type AdapterFacts, type Choice } from '../engine/choice.ts';
import { Engine } from '../engine/engine.ts';
import { Failure, failureName, partOfApp } from '../failure.ts';
import { JsonCalibrations, type CalibrationStore } from '../gpu/calibration-store.ts';
import { requestGpu, type GpuDevice, type GpuOptions } from '../gpu/device.ts';
import { carefulTuning, isSoftware } from '../gpu/tuning.ts';
import { keptMeasurements } from '../store/measurements.ts';
import { OpfsPlace } from '../store/opfs.ts';
import type { AcceptManifest } from '../store/install.ts';
import { openInstalled, openPackage, type StoredPackage } from '../store/package.ts';
import { MemoryPlace, type Place } from '../store/place.ts';
import { keptPrefixes } from '../store/prefixes.ts';
import {
  INSTALLED,
  type BackendChoice,
  type DeviceReport,
  type EngineApi,
  type FellBack,
  type GenerateEvent,
  type GenerateRequest,
  type GenerateResult,
  type LoadProgress,
  type ModelInfo,
  type OpenOptions,
  type WorkerCounts,
} from './api.ts';
import { EngineLock } from './engine-lock.ts';
import { fasterStore, worthMeasuring } from './faster-store.ts';
import { exclusive, get, type ModelHost } from './models.ts';
import { Pipe } from './pipe.ts';

/** A callback of the page: across the border it answers with a promise. */
type Listener<T> = (event: T) => void | Promise<void>;

/** Storage has one writer: a second tab waits until the first has its package. */
const STORAGE_LOCK = 'pediatricsgpt-models';

const USUAL: GpuOptions = {};
/** Every kernel in its plainest form, little at a time, and a small cache. */
const CAREFUL: GpuOptions = { variant: 'f32', cache: 'int8', tuning: carefulTuning };
const optionsFor = (careful: boolean): GpuOptions => (careful ? CAREFUL : USUAL);

/** An adapter that was found and gave no device. */
const NO_DEVICE: FellBack = { from: 'WebGPU', because: 'NoWebGpu' };

/** Loaded when the CPU is to compute; a first try that failed is not kept. */
let runtime: Promise<OnnxRuntime> | null = null;
const loadRuntime = (): Promise<OnnxRuntime> => {
  runtime ??= partOfApp(import('./onnx-runtime.ts')).then(({ loadOnnxRuntime }) =>
    loadOnnxRuntime(),
  );
  runtime.catch(() => (runtime = null));
  return runtime;
};

/** The worker's side of EngineApi: one GPU or the CPU, one package, one answer at a time. */
export class Host implements EngineApi, ModelHost {
  #gpu: GpuDevice | null = null;
  #gpuOptions: GpuOptions = USUAL;
  #engine: Engine | null = null;
  /** The device that the engine replaces by itself; the page hears of a later loss only. */
  #replaceable: GpuDevice | null = null;
  /** The CPU goes on where the GPU does not: the page need not hear of any loss. */
  #cpuCanFollow = false;
  #answer: AbortController | null = null;
  #loading: AbortController | null = null;
  #reportLoss: (reason: string) => void = () => undefined;
  #reportEnd: (failure: Failure) => void = () => undefined;
  #loss = this.#nextLoss();
  /** Why the GPU went away; null once a package is opened anew. */
  #lostBecause: string | null = null;
  readonly #lock = new EngineLock(() => this.#yield());
  #openKey: string | null = null;
  /** Settles when the last answer, or load, has ended. */
  #ended: Promise<unknown> = Promise.resolve();

  async probe(): Promise<DeviceReport> {
    // `navigator.gpu` is missing where the browser has no WebGPU or the page is not secure.
    const gpu: GPU | undefined = navigator.gpu;
    const adapter = (await gpu?.requestAdapter()) ?? null;
    if (adapter === null) {
      return { webgpu: false, adapter: '', software: false, shaderF16: false, subgroups: false };
    }
    const { vendor, architecture, device, description } = adapter.info;
    const said = [vendor, architecture, device, description].filter((part) => part !== '');
    return {
      webgpu: true,
      adapter: [...new Set(said)].join(' '),
      software: isSoftware(adapter.info),
      shaderF16: adapter.features.has('shader-f16'),
      subgroups: adapter.features.has('subgroups'),
    };
  }

  async open(
    url: string,
    onProgress: Listener<LoadProgress>,
    { careful = false, backend = 'auto', takeOver = false }: OpenOptions = {},
  ): Promise<ModelInfo> {
    const address = addressOf(url);
    if (this.#isBusy) throw new Failure('Busy', 'one thing at a time');
    const loading = new AbortController();
    this.#loading = loading;
    let ended = (): void => undefined;
    this.#ended = new Promise<void>((resolve) => (ended = resolve));
    if (this.#gpuOptions !== optionsFor(careful)) {
      this.#gpuOptions = optionsFor(careful);
      this.#gpu = null; // another device: one that is there has its kernels cut already
    }
    try {
      const pipe = new Pipe(onProgress, latest);
      await this.#lock.take(takeOver);
      const push = (progress: LoadProgress) => pipe.push(progress);
      const info = await this.#open(address, backend, push, loading.signal);
      await pipe.flush();
      loading.signal.throwIfAborted();
      return info;
    } catch (error) {
      if (loading.signal.aborted) this.#letGo();
      // A window without a model does not keep others from having one.
      if (this.#engine === null) this.#lock.release();
      // Whoever ended it says why, whatever it ran into.
      loading.signal.throwIfAborted();
      throw error;
    } finally {
      this.#loading = null;
      ended();
    }
  }

  async generate(
    request: GenerateRequest,
    onEvent: Listener<GenerateEvent>,
  ): Promise<GenerateResult> {
    if (this.#isBusy) throw new Failure('Busy', 'one answer at a time');
    if (this.#lostBecause !== null) throw new Failure('DeviceLost', this.#lostBecause);
    if (this.#engine === null) throw new Error('no package is open');
    const answer = new AbortController();
    this.#answer = answer;
    try {
      const pipe = new Pipe(onEvent, mergeEvents);
      const push = (event: GenerateEvent) => pipe.push(event);
      const answering = this.#unlessLost(this.#engine.generate(request, push, answer.signal));
      this.#ended = answering.catch(() => undefined);
      const result = await answering;
      await pipe.flush();
      return result;
    } catch (error) {
      // The engine has tried what there is to try.
      if (failureName(error) === 'DeviceLost') this.#giveUp(messageOf(error));
      throw error;
    } finally {
      this.#answer = null;
    }
  }

  stop(): Promise<void> {
    this.#loading?.abort(new Failure('Cancelled', 'the load was stopped'));
    if (this.#answer !== null) {
      this.#engine?.noteStop();
      this.#answer.abort();
    }
    return Promise.resolve();
  }

  counts(): Promise<WorkerCounts> {
    return Promise.resolve(this.#engine?.counts ?? { decodeSteps: 0, decodeStepsAfterStop: 0 });
  }

  lost(): Promise<string> {
    return this.#loss;
  }

  /** The installed package that is loaded; null where none is. */
  get openKey(): string | null {
    return this.#openKey;
  }

  async adapter(): Promise<AdapterFacts | null> {
    const facts = await this.probe();
    return facts.webgpu ? facts : null;
  }

  /** Ends a running answer or load and lets go of the model; another window may have it then. */
  async close(): Promise<void> {
    await this.stop();
    await this.#ended;
    this.#letGo();
    this.#lock.release();
  }

  #letGo(): void {
    this.#engine?.dispose();
    this.#engine = null;
    this.#openKey = null;
  }

  /** Another window wants the model: what is answered so far stays, and the page is told. */
  async #yield(): Promise<void> {
    const taken = new Failure('OtherWindow', 'another window took the model');
    this.#loading?.abort(taken);
    await this.close();
    const report = this.#reportEnd;
    this.#loss = this.#nextLoss();
    report(taken);
  }

  get #isBusy(): boolean {
    return this.#loading !== null || this.#answer !== null;
  }

  async #open(
    url: string,
    asked: BackendChoice,
    onProgress: (progress: LoadProgress) => void,
    signal: AbortSignal,
  ): Promise<ModelInfo> {
    this.#replaceable = null;
    this.#cpuCanFollow = false;
    const adapter = asked === 'cpu' ? null : await this.probe();
    const facts = adapter?.webgpu === true ? adapter : null;
    // The GPU first: where only it is wanted, there is no use in fetching a model without one.
    if (asked === 'webgpu') this.#gpu ??= await this.#requestGpu();
    this.#letGo();
    return navigator.locks.request(STORAGE_LOCK, { signal }, async () => {
      let choice: Choice = { first: 'wgsl', cpuCanFollow: false };
      let isWorth = false;
      let isProved = false;
      const { source, fetched, manifestSha, key, place } = await openStored(
        url,
        onProgress,
        signal,
        (manifest) => {
          choice = chooseBackend(asked, facts, manifest);
          isProved = manifest.knownAnswer !== null;
          isWorth = asked === 'auto' && worthMeasuring(navigator, manifest);
        },
      );
      const { first, cpuCanFollow } = choice;
      const gpu = first === 'wgsl' ? await this.#gpuOrCpu(cpuCanFollow) : null;
      const cpu = gpu === null || cpuCanFollow ? { cpu: loadRuntime } : {};
      // Where everything is to be plain nothing is chosen, nor in software: each way of running a
      // kernel takes a driver of that kind seconds to compile, and the usual one is a good one.
      const plain = this.#gpuOptions === CAREFUL || facts?.software !== false;
      const measured = plain ? {} : { measurements: measurements() };
      // A phone's CPU may well be faster than its GPU: found out once for each package and browser.
      const { hardwareConcurrency: cores } = navigator;
      const hinges = [facts?.adapter, manifestSha, cores, globalThis.crossOriginIsolated];
      const kept = keptMeasurements(warn, 'backends');
      const race = isWorth && !plain ? { faster: fasterStore(kept, hinges.join(' ')) } : {};
      this.#cpuCanFollow = cpuCanFollow;
      // Where nothing proves the numbers, none are rounded to 8 bits.
      const device = gpu && (isProved ? gpu : { ...gpu, cache: 'elem' as const });
      const engine = await this.#unlessLost(
        Engine.open(source, device, {
          onProgress,
          renewGpu: () => this.#renewGpu(),
          signal,
          prefixes: await keptPrefixes(place, manifestSha, warn),
          ...cpu,
          ...measured,
          ...race,
        }),
      );
      this.#engine = engine;
      this.#openKey = key;
      this.#replaceable = gpu;
      this.#lostBecause = null;
      const isOther = url.startsWith(INSTALLED) && key !== url.slice(INSTALLED.length);
      const { info } = engine;
      const tried = first === 'wgsl' && gpu === null ? [NO_DEVICE] : [];
      return {
        ...info,
        fellBack: [...tried, ...info.fellBack],
        fetched: [...fetched],
        ...(isOther && { insteadKey: key }),
      };
    });
  }

  /** The GPU's device; null where it gives none and the CPU can do without. */
  async #gpuOrCpu(cpuCanFollow: boolean): Promise<GpuDevice | null> {
    try {
      return (this.#gpu ??= await this.#requestGpu());
    } catch (error) {
      if (!cpuCanFollow || failureName(error) !== 'NoWebGpu') throw error;
      return null;
    }
  }

  async #requestGpu(): Promise<GpuDevice> {
    const gpu = await requestGpu(navigator.gpu, this.#gpuOptions);
    this.#lostBecause = null;
    void gpu.lost.then((reason) => {
      if (this.#gpu === gpu) this.#gpu = null;
      // The answer under way, or the next one, gets a new device by itself.
      if (this.#replaceable !== gpu && !this.#cpuCanFollow) this.#giveUp(reason);
    });
    return gpu;
  }

  /** A device in the place of a lost one. @throws Failure DeviceLost where there is none */
  async #renewGpu(): Promise<GpuDevice> {
    try {
      return (this.#gpu = await this.#requestGpu());
    } catch (cause) {
      throw new Failure('DeviceLost', `no new device: ${messageOf(cause)}`, { cause });
    }
  }

  #giveUp(reason: string): void {
    if (this.#lostBecause !== null) return;
    this.#gpu = null;
    this.#engine = null;
    this.#lostBecause = reason;
    const report = this.#reportLoss;
    this.#loss = this.#nextLoss();
    report(reason);
  }

  #nextLoss(): Promise<string> {
    const loss = new Promise<string>((resolve, reject) => {
      this.#reportLoss = resolve;
      this.#reportEnd = reject;
    });
    loss.catch(() => undefined); // It is told to whoever asks.
    return loss;
  }

  /** `work`, or DeviceLost as soon as the GPU is: its own promises may never settle then. */
  #unlessLost<T>(work: Promise<T>): Promise<T> {
    const lost = this.#loss.then((reason): never => {
      throw new Failure('DeviceLost', reason);
    });
    return Promise.race([work, lost]);
  }
}

/** @throws Error for an address that is neither a folder of this site nor an installed package's */
function addressOf(url: string): string {
  if (url.startsWith(INSTALLED)) return url;
  const folder = new URL(url, location.href);
  if (folder.origin !== location.origin || !folder.pathname.endsWith('/')) {
    throw new Error(`${url} is no folder of this site`);
  }
  return folder.href;
}

/** The package from the browser's storage; from memory, for this visit, where there is none. */
async function openStored(
  url: string,
  onProgress: (progress: LoadProgress) => void,
  signal: AbortSignal,
  accept: AcceptManifest,
): Promise<StoredPackage & { readonly place: Place }> {
  const options = { accept, exclusive, signal };
  const from = async (place: Place) => ({
    ...(url.startsWith(INSTALLED)
      ? await openInstalled(url.slice(INSTALLED.length), place, get, onProgress, options)
      : await openPackage(url, place, get, onProgress, options)),
    place,
  });
  try {
    return await from(await OpfsPlace.open());
  } catch (error) {
    if (failureName(error) !== 'StorageBlocked') throw error;
    return from(new MemoryPlace());
  }
}

/** A trouble that a person can do nothing about, and need not. */
// eslint-disable-next-line no-console -- for whoever looks there
const warn = (line: string): void => console.warn(line);

function measurements(): CalibrationStore {
  const { read, write } = keptMeasurements(warn);
  return new JsonCalibrations(read, write);
}

/** Of two steps of one phase only the newer counts. */
function latest(older: LoadProgress, newer: LoadProgress): LoadProgress | null {
  return older.phase === newer.phase ? newer : null;
}

function mergeEvents(older: GenerateEvent, newer: GenerateEvent): GenerateEvent | null {
  if (newer.kind === 'prefill') return older.kind === 'prefill' ? newer : null;
  if (newer.kind !== 'piece' || older.kind !== 'piece') return null;
  return { ...newer, text: older.text + newer.text };
}

const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);
