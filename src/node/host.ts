import './script-globals.ts';
import process from 'node:process';
import { Engine } from '../engine/engine.ts';
import { Failure, failureName } from '../failure.ts';
import { parseManifest } from '../format/layout.ts';
import { requestGpu } from '../gpu/device.ts';
import type { GenerateResult, LoadProgress, Turn } from '../worker/api.ts';
import { cpuRuntime } from './cpu.ts';
import { findGpu, type NodeGpu } from './device.ts';
import { DiskPackage } from './disk.ts';
import { calibrateOnDisk } from './kernels.ts';
import { checkTask, samplingOf, type AskOptions } from './options.ts';
import { Watchdog } from './watchdog.ts';

/** Compiling shaders on a software driver is the longest silence of a healthy run. */
const SILENCE_MS = 300_000;

const note = (line: string): void => void process.stderr.write(`${line}\n`);

/** The GPU's driver; null where the CPU is to compute. @throws Failure NoWebGpu where it may not */
async function gpuFor({ backend }: AskOptions, watchdog: Watchdog): Promise<NodeGpu | null> {
  if (backend === 'cpu') return null;
  try {
    return await watchdog.guard('finding a GPU', findGpu());
  } catch (error) {
    if (backend === 'webgpu' || failureName(error) !== 'NoWebGpu') throw error;
    note('没有找到显卡驱动，用处理器计算。/ No GPU driver here: the CPU computes.');
    return null;
  }
}

/** A loaded package on this machine's GPU, or its CPU, ready for questions. */
export class Host {
  readonly info: Engine['info'];
  readonly tasks: readonly string[];
  readonly #engine: Engine;
  readonly #options: AskOptions;
  readonly #watchdog: Watchdog;
  readonly #release: () => void;

  private constructor(
    engine: Engine,
    options: AskOptions,
    watchdog: Watchdog,
    release: () => void,
  ) {
    this.info = engine.info;
    this.tasks = engine.info.tasks.map(({ id }) => id);
    this.#engine = engine;
    this.#options = options;
    this.#watchdog = watchdog;
    this.#release = release;
  }

  /**
   * Looks at task and mode first, then finds a GPU, chooses kernels and loads the package onto it.
   * @throws Failure UnknownTask, NotRouted, NoWebGpu, and what `Engine.open` throws
   */
  static async open(
    options: AskOptions,
    onProgress: (progress: LoadProgress) => void,
  ): Promise<Host> {
    const source = new DiskPackage(options.package);
    const manifest = parseManifest(await source.read('manifest.json'));
    const tasks = manifest.tasks.map(({ id }) => id);
    if (options.task !== null) checkTask(options.task, tasks);
    if (options.routed && manifest.adapter?.mode !== 'routed') {
      throw new Failure('NotRouted', `${options.package} is merged per task; leave --routed out`);
    }
    const watchdog = new Watchdog(SILENCE_MS);
    const touch = (progress: LoadProgress): void => {
      watchdog.touch();
      onProgress(progress);
    };
    const found = await gpuFor(options, watchdog);
    if (found === null) {
      const opened = Engine.open(source, null, { cpu: cpuRuntime, onProgress: touch });
      const engine = await watchdog.guard('loading the model', opened);
      return new Host(engine, options, watchdog, () => undefined);
    }
    const wanted = { variant: options.variant, cache: options.cache };
    const gpu = await watchdog.guard('opening the GPU', requestGpu(found.gpu, wanted));
    const release = (): void => {
      gpu.device.destroy();
      found.release();
    };
    try {
      const measured = options.calibrate
        ? (
            await watchdog.guard(
              'measuring',
              calibrateOnDisk(gpu, manifest.config, { note, allowInt8: options.int8 }),
            )
          ).gpu
        : gpu;
      const opened = Engine.open(source, measured, { onProgress: touch });
      const engine = await watchdog.guard('loading the model', opened);
      return new Host(engine, options, watchdog, release);
    } catch (error) {
      release();
      throw error;
    }
  }

  /** The task asked for on the command line, or the package's first. */
  get firstTask(): string {
    return this.#options.task ?? this.tasks[0] ?? '';
  }

  /** Answers the last turn; pieces of the text come as they are made. */
  answer(
    task: string,
    turns: readonly Turn[],
    seed: number,
    onPiece: (text: string) => void,
    signal: AbortSignal,
  ): Promise<GenerateResult> {
    const sampling = samplingOf(this.#options, this.info.sampling);
    const { logprobs, format } = this.#options;
    const more = {
      ...(this.#options.routed ? { routed: true } : {}),
      ...(logprobs === null ? {} : { logprobs }),
      ...(format === null ? {} : { format }),
    };
    const work = this.#engine.generate(
      { task, turns, sampling, seed, ...more },
      (event) => {
        this.#watchdog.touch();
        if (event.kind === 'piece') onPiece(event.text);
      },
      signal,
    );
    return this.#watchdog.guard('answering', work);
  }

  /** Lets the model and the GPU go, without which the process does not end. */
  close(): void {
    this.#engine.dispose();
    this.#release();
  }
}
