import { Failure } from '../failure.ts';
import { parseManifest } from '../format/layout.ts';
import type { Manifest } from '../format/manifest.ts';
import type { PackageSource } from '../format/source.ts';
import type { GpuDevice } from '../gpu/device.ts';
import { encodeChat } from '../text/template.ts';
import { Tokenizer } from '../text/tokenizer.ts';
import type {
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  LoadProgress,
  ModelInfo,
  WorkerCounts,
} from '../worker/api.ts';
import { answer } from './answer.ts';
import type { Backend } from './backend.ts';
import { openWgsl } from './backends/wgsl.ts';
import { describe } from './info.ts';
import { checkKnownAnswer } from './known-answer.ts';
import { Session } from './session.ts';

/** An answer needs room for at least this many tokens beside the conversation. */
export const SMALLEST_ANSWER = 32;

export interface OpenOptions {
  readonly onProgress?: (progress: LoadProgress) => void;
  /** False leaves the known-answer test out. Default true. */
  readonly selfTest?: boolean;
}

/** `routed` asks for the per-token router; left out, a package runs in its own mode. */
export type EngineRequest = GenerateRequest & { readonly routed?: boolean };

/** What an engine stands on. */
export interface EngineParts {
  readonly backend: Backend;
  readonly manifest: Manifest;
  readonly tokenizer: Tokenizer;
  readonly info: Omit<ModelInfo, 'fetched'>;
}

/** One model, one conversation at a time: turns in, text out, token by token. */
export class Engine {
  readonly info: Omit<ModelInfo, 'fetched'>;
  readonly #backend: Backend;
  readonly #manifest: Manifest;
  readonly #tokenizer: Tokenizer;
  readonly #session = new Session();
  #running = false;
  #stopped = false;
  #decodeSteps = 0;
  #decodeStepsAfterStop = 0;

  constructor(parts: EngineParts) {
    this.info = parts.info;
    this.#backend = parts.backend;
    this.#manifest = parts.manifest;
    this.#tokenizer = parts.tokenizer;
  }

  /**
   * Loads a package and proves its numbers on this GPU.
   * @throws Failure BadManifest, BadTokenizer, BadPackage, DeviceLimit, WrongNumbers, and what
   *   the source throws
   */
  static async open(
    source: PackageSource,
    gpu: GpuDevice,
    options: OpenOptions = {},
  ): Promise<Engine> {
    const report = (phase: LoadProgress['phase'], bytesDone: number, bytesTotal: number): void => {
      options.onProgress?.({ phase, bytesDone, bytesTotal, file: null, network: false });
    };
    const bytes = await source.read('manifest.json');
    const manifest = parseManifest(bytes);
    report('manifest', bytes.length, bytes.length);
    const tokenizer = Tokenizer.fromBytes(await source.read('tokenizer.json'));
    if (tokenizer.vocab !== manifest.config.vocab) {
      const sizes = `${tokenizer.vocab} pieces, the model ${manifest.config.vocab}`;
      throw new Failure('BadPackage', `tokenizer.json has ${sizes}`);
    }
    const read = (file: string): Promise<Uint8Array> => source.read(file);
    const backend = await openWgsl(gpu, manifest, read, (p) => {
      report('upload', p.bytesDone, p.bytesTotal);
    });
    try {
      report('self-test', 0, 0);
      const known = options.selfTest === false ? null : manifest.knownAnswer;
      const selfTest = known === null ? null : await checkKnownAnswer(backend, known);
      const info = describe(manifest, bytes.length, backend, selfTest);
      return new Engine({ backend, manifest, tokenizer, info });
    } catch (error) {
      backend.dispose();
      throw error;
    }
  }

  /** What was counted since the engine was opened. */
  get counts(): WorkerCounts {
    return {
      decodeSteps: this.#decodeSteps,
      decodeStepsAfterStop: this.#decodeStepsAfterStop,
    };
  }

  /** A stop has arrived: decode steps that end from now on, until the next answer, are counted. */
  noteStop(): void {
    this.#stopped = true;
    this.#decodeStepsAfterStop = 0;
  }

  /**
   * Answers the last turn. Aborting the signal ends the answer after at most one more decode
   * step, with what was said so far and finish 'cancelled'.
   * @throws Failure Busy, UnknownTask, EmptyPrompt, PromptTooLong, NotRouted, WrongNumbers,
   *   DeviceLost
   */
  async generate(
    request: EngineRequest,
    onEvent: (event: GenerateEvent) => void,
    signal?: AbortSignal,
  ): Promise<GenerateResult> {
    if (this.#running) throw new Failure('Busy', 'one answer at a time');
    this.#running = true;
    this.#stopped = false;
    try {
      const prompt = this.#prompt(request);
      const taskSwitchMs = this.#enter(request);
      const result = await this.#answer(prompt, request, onEvent, signal);
      return { ...result, taskSwitchMs };
    } finally {
      this.#running = false;
    }
  }

  dispose(): void {
    this.#backend.dispose();
  }

  /** The tokens of the conversation, once it is sure that it can be answered. */
  #prompt({ task, turns }: EngineRequest): number[] {
    const { tasks, template, config } = this.#manifest;
    const info = tasks.find(({ id }) => id === task);
    if (info === undefined) {
      const known = tasks.map(({ id }) => id).join(', ');
      throw new Failure('UnknownTask', `no task ${JSON.stringify(task)} here, only ${known}`);
    }
    const last = turns.at(-1);
    if (last === undefined || last.role !== 'user' || last.text.trim() === '') {
      throw new Failure('EmptyPrompt', 'the conversation does not end with a question');
    }
    const prompt = encodeChat(this.#tokenizer, template, info.system, turns);
    if (config.capacity - prompt.length < SMALLEST_ANSWER) {
      const room = `${config.capacity} of which ${SMALLEST_ANSWER} are for the answer`;
      throw new Failure('PromptTooLong', `${prompt.length} tokens; there is room for ${room}`);
    }
    return prompt;
  }

  /** Puts task and mode in place. @returns what a change took in milliseconds, 0 for none */
  #enter({ task, routed: asked }: EngineRequest): number {
    const hasRouter = this.#manifest.adapter?.mode === 'routed';
    const routed = asked ?? hasRouter;
    if (routed && !hasRouter) {
      throw new Failure('NotRouted', `package ${this.#manifest.id} is merged: it has no router`);
    }
    if (this.#session.task === task && this.#session.routed === routed) return 0;
    this.#session.forget();
    if (hasRouter) this.#backend.setRouted(routed);
    const elapsedMs = this.#backend.setTask(task);
    this.#session.begin(task, routed);
    return elapsedMs;
  }

  async #answer(
    prompt: readonly number[],
    { sampling, seed }: EngineRequest,
    onEvent: (event: GenerateEvent) => void,
    signal: AbortSignal | undefined,
  ): Promise<Omit<GenerateResult, 'taskSwitchMs'>> {
    const onDecodeStep = (): void => {
      this.#decodeSteps += 1;
      if (this.#stopped) this.#decodeStepsAfterStop += 1;
    };
    const { stopIds } = this.#manifest.template;
    const meanings = this.#tokenizer;
    const plan = { prompt, sampling, seed, stopIds, meanings, onEvent, onDecodeStep, signal };
    try {
      return await answer(this.#backend, this.#session, plan);
    } catch (error) {
      // What the cache holds after a failed pass is not known.
      this.#session.forget();
      throw error;
    }
  }
}
