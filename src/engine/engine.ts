import { Failure, partOfApp } from '../failure.ts';
import { sha256 } from '../format/hash.ts';
import { parseManifest } from '../format/layout.ts';
import type { Manifest } from '../format/manifest.ts';
import type { PackageSource } from '../format/source.ts';
import type { CalibrationStore } from '../gpu/calibration-store.ts';
import type { GpuDevice } from '../gpu/device.ts';
import { encodeParts, joinParts } from '../text/template.ts';
import { Tokenizer } from '../text/tokenizer.ts';
import type {
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  LoadProgress,
  ModelInfo,
  WorkerCounts,
} from '../worker/api.ts';
import { answer, type Answered, type AnswerPlan } from './answer.ts';
import type { Backend } from './backend.ts';
import { describe } from './info.ts';
import { KeptPrefixes, worthKeeping, type PrefixStore } from './kept-prefix.ts';
import type { Constrainer, Constraint } from './constraint/constraint.ts';
import { MOST_ALTERNATIVES } from './logprobs.ts';
import type { OnnxRuntime } from './backends/onnx.ts';
import type { FasterStore } from './faster.ts';
import { makerFor } from './makers.ts';
import type { BackendMaker, Checked, RecoveryCause } from './recovery.ts';
import { Session } from './session.ts';
import { turnsInWindow } from './window.ts';

/** An answer needs room for at least this many tokens beside the conversation. */
export const SMALLEST_ANSWER = 32;
/** Before a conversation loses its oldest exchanges, an answer may take this share of the cache. */
const ANSWER_SHARE = 1 / 4;
/** Where it loses some, the rest fills at most this share. */
const TARGET_SHARE = 0.6;
/** A prefill of fewer tokens says little about the speed. */
const TELLING_PREFILL = 16;

interface Prompt {
  readonly tokens: readonly number[];
  readonly droppedQuestions: number;
}

export interface OpenOptions {
  readonly onProgress?: (progress: LoadProgress) => void;
  /** False leaves the known-answer test out. Default true. */
  readonly selfTest?: boolean;
  /** A new device after the first one is lost; without it a loss ends the engine. */
  readonly renewGpu?: () => Promise<GpuDevice>;
  /** Chooses the GPU's kernels by measurement, about a second at first; without it, the usual ones. */
  readonly measurements?: CalibrationStore;
  /** Keeps keys and values of system texts between visits; without it they are computed anew. */
  readonly prefixes?: PrefixStore;
  /** Loads what computes on the CPU: alone where there is no GPU, else where the GPU fails. */
  readonly cpu?: () => Promise<OnnxRuntime>;
  /** Measures GPU and CPU and keeps the one that answers sooner; without it the GPU goes first. */
  readonly faster?: FasterStore;
  /** Ends the load at its next step: between two files, trials or known answers. */
  readonly signal?: AbortSignal;
}

/** `routed` asks for the per-token router; left out, a package runs in its own mode. */
export type EngineRequest = GenerateRequest & { readonly routed?: boolean };

/** What an engine stands on. */
export interface EngineParts {
  readonly first: Checked;
  /** Makes another backend where the first one fails. */
  readonly maker: Pick<BackendMaker, 'helps' | 'another'>;
  readonly manifest: Manifest;
  readonly manifestBytes: number;
  readonly tokenizer: Tokenizer;
  /** Null computes every prompt from its start. */
  readonly kept?: KeptPrefixes | null;
}

/** One model, one conversation at a time: turns in, text out, token by token. */
export class Engine {
  readonly #maker: EngineParts['maker'];
  readonly #manifestBytes: number;
  readonly #manifest: Manifest;
  readonly #tokenizer: Tokenizer;
  readonly #kept: KeptPrefixes | null;
  readonly #session = new Session();
  /** Settles when no answer is under way. */
  #idle: Promise<void> = Promise.resolve();
  #checked: Checked;
  #running = false;
  #stopped = false;
  #decodeSteps = 0;
  #decodeStepsAfterStop = 0;
  #prefillRate = 0;
  #constrainer: Promise<Constrainer> | null = null;
  /** Why no backend is left. */
  #broken: Error | null = null;

  constructor(parts: EngineParts) {
    this.#checked = parts.first;
    this.#maker = parts.maker;
    this.#manifestBytes = parts.manifestBytes;
    this.#manifest = parts.manifest;
    this.#tokenizer = parts.tokenizer;
    this.#kept = parts.kept ?? null;
  }

  /**
   * Loads a package and proves its numbers on this GPU. Where f16 fails the proof, f32 is taken,
   * then the CPU where `options.cpu` gives it. Without a GPU it is the CPU from the start.
   * @throws Failure BadManifest, BadTokenizer, BadPackage, DeviceLimit, CpuLimit, NoWebGpu (neither
   *   GPU nor CPU), WrongNumbers, and what the source and `options.cpu` throw; the reason of
   *   `options.signal` where that is aborted, and nothing stays in memory then
   */
  static async open(
    source: PackageSource,
    gpu: GpuDevice | null,
    options: OpenOptions = {},
  ): Promise<Engine> {
    // What is made after the load, when the GPU fails, is no more ended by its signal.
    const load = new AbortController();
    const stop = (): void => load.abort(options.signal?.reason);
    if (options.signal?.aborted === true) stop();
    options.signal?.addEventListener('abort', stop);
    try {
      return await Engine.#load(source, gpu, options, load.signal);
    } finally {
      options.signal?.removeEventListener('abort', stop);
    }
  }

  static async #load(
    source: PackageSource,
    gpu: GpuDevice | null,
    options: OpenOptions,
    signal: AbortSignal,
  ): Promise<Engine> {
    const report = (phase: LoadProgress['phase'], bytesDone: number, bytesTotal: number): void => {
      options.onProgress?.({ phase, bytesDone, bytesTotal, file: null, network: false });
    };
    const read = async (file: string): Promise<Uint8Array<ArrayBuffer>> => {
      signal.throwIfAborted();
      return source.read(file);
    };
    const bytes = await read('manifest.json');
    const manifest = parseManifest(bytes);
    report('manifest', bytes.length, bytes.length);
    const tokenizer = Tokenizer.fromBytes(await read('tokenizer.json'));
    if (tokenizer.vocab !== manifest.config.vocab) {
      const sizes = `${tokenizer.vocab} pieces, the model ${manifest.config.vocab}`;
      throw new Failure('BadPackage', `tokenizer.json has ${sizes}`);
    }
    const { cpu, faster, renewGpu, measurements, prefixes, selfTest = true } = options;
    const means = { manifest, read, selfTest, signal, report };
    const maker = makerFor({ ...means, gpu, renewGpu, measurements, cpu, faster });
    const first = await maker.first();
    if (signal.aborted) {
      first.backend.dispose();
      signal.throwIfAborted();
    }
    const kept = prefixes === undefined ? null : new KeptPrefixes(prefixes, await sha256(bytes));
    return new Engine({ first, maker, manifest, manifestBytes: bytes.length, tokenizer, kept });
  }

  /** What a person may know of the package and of what computes it now. */
  get info(): Omit<ModelInfo, 'fetched'> {
    return describe(this.#manifest, this.#manifestBytes, this.#checked);
  }

  get #backend(): Backend {
    return this.#checked.backend;
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
   * Answers the last turn. Aborting the signal ends the answer with the decode steps that are
   * under way, at most the tuning's `stepsInFlight`, with what was said so far and finish 'cancelled'. Where the GPU fails and another try
   * may help, the model is loaded anew and the answer goes on from its tokens. A conversation that is too long loses
   * its oldest exchanges, except pinned ones; the result says how many.
   * @throws RangeError for senseless settings; Failure Usage (a format that cannot be used), Busy, UnknownTask, EmptyPrompt, PromptTooLong, NotRouted, WrongNumbers,
   *   DeviceLost
   */
  async generate(
    request: EngineRequest,
    onEvent: (event: GenerateEvent) => void,
    signal?: AbortSignal,
  ): Promise<GenerateResult> {
    if (this.#running) throw new Failure('Busy', 'one answer at a time');
    if (this.#broken !== null) throw this.#broken;
    this.#running = true;
    let ended = (): void => undefined;
    this.#idle = new Promise((resolve) => (ended = resolve));
    this.#stopped = false;
    const recoveries: RecoveryCause[] = [];
    const recover = async (error: unknown): Promise<void> => {
      const because = this.#maker.helps(error);
      if (because === null) throw error;
      recoveries.push(because);
      onEvent({ kind: 'recovery', because });
      await this.#replaceBackend(because);
      await this.#enter(request);
    };
    let constraint: Constraint | null = null;
    try {
      const prompt = this.#prompt(request);
      constraint = await this.#constraint(request);
      const taskSwitchMs = await this.#enter(request);
      const result = await this.#answer(prompt, request, { onEvent, recover, constraint }, signal);
      const { droppedQuestions } = prompt;
      const { name, variant, adapterName } = this.#backend;
      const ran = { backend: name, variant, adapter: adapterName };
      void this.#kept?.keep(this.#backend, this.#session, () => this.#untilIdle());
      return { ...result, taskSwitchMs, droppedQuestions, ran, recoveries };
    } finally {
      constraint?.dispose();
      this.#running = false;
      ended();
    }
  }

  dispose(): void {
    this.#backend.dispose();
  }

  /** The tokens that the model is given, once it is sure that they can be answered. */
  #prompt({ task, turns, sampling, system, logprobs = 0 }: EngineRequest): Prompt {
    if (!Number.isInteger(logprobs) || logprobs < 0 || logprobs > MOST_ALTERNATIVES) {
      throw new RangeError(`logprobs ${logprobs}: from 0 to ${MOST_ALTERNATIVES}`);
    }
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
    const parts = encodeParts(this.#tokenizer, template, system ?? info.system, turns);
    const answer = Math.min(sampling.maxTokens, Math.floor(config.capacity * ANSWER_SHARE));
    const most = config.capacity - Math.max(SMALLEST_ANSWER, answer);
    const measured = {
      system: parts.system.length,
      separator: parts.separator.length,
      turns: parts.turns.map(({ tokens }) => tokens.length),
    };
    const target = Math.min(most, Math.floor(config.capacity * TARGET_SHARE));
    const kept = turnsInWindow(turns, measured, { most, target });
    const tokens = joinParts(parts, kept);
    if (config.capacity - tokens.length < SMALLEST_ANSWER) {
      const room = `${config.capacity} of which ${SMALLEST_ANSWER} are for the answer`;
      throw new Failure('PromptTooLong', `${tokens.length} tokens; there is room for ${room}`);
    }
    const questions = (numbers: readonly number[]): number =>
      numbers.filter((i) => turns[i]?.role === 'user').length;
    const all = questions(turns.map((_, i) => i));
    return { tokens, droppedQuestions: all - questions(kept) };
  }

  /** What the answer has to look like. The library that knows is loaded when first asked for. */
  async #constraint({ format }: EngineRequest): Promise<Constraint | null> {
    if (format === undefined) return null;
    const { stopIds } = this.#manifest.template;
    this.#constrainer ??= partOfApp(import('./constraint/xgrammar.ts')).then(
      ({ openConstrainer }) => openConstrainer(this.#tokenizer, stopIds),
    );
    try {
      return await (await this.#constrainer).constrain(format);
    } catch (error) {
      this.#constrainer = null; // a failed load, or a library that has stopped, is tried anew
      throw error;
    }
  }

  /**
   * Puts task and mode in place, and the start of such prompts into the cache where it was kept.
   * @returns what a change of the gates took in milliseconds, 0 for none
   */
  async #enter({ task, routed: asked, system }: EngineRequest): Promise<number> {
    const hasRouter = this.#manifest.adapter?.mode === 'routed';
    const routed = asked ?? hasRouter;
    if (routed && !hasRouter) {
      throw new Failure('NotRouted', `package ${this.#manifest.id} is merged: it has no router`);
    }
    const tokens = this.#prefixOf(task, system);
    let elapsedMs = 0;
    if (this.#session.task !== task || this.#session.routed !== routed) {
      this.#session.forget();
      if (hasRouter) this.#backend.setRouted(routed);
      elapsedMs = this.#backend.setTask(task);
      this.#session.begin(task, routed);
    } else if (this.#session.startsWith(tokens)) {
      return 0;
    }
    const restored = await this.#kept?.restore(this.#backend, { task, routed, tokens });
    if (restored !== undefined && restored > 0) this.#session.holds(tokens);
    return elapsedMs;
  }

  /** What every prompt begins with: the system text, the task's own unless another is given, and what stands before a question. */
  #prefixOf(task: string, system: string | undefined): readonly number[] {
    const { tasks, template } = this.#manifest;
    const own = tasks.find(({ id }) => id === task)?.system ?? '';
    const parts = encodeParts(this.#tokenizer, template, system ?? own, []);
    return [...parts.system, ...this.#tokenizer.encodeTemplate(template.user.prefix)];
  }

  async #untilIdle(): Promise<void> {
    while (this.#running) await this.#idle;
  }

  /** Another backend in the place of one that failed. Nothing is known of its cache. */
  async #replaceBackend(because: RecoveryCause): Promise<void> {
    this.#session.forget();
    this.#backend.dispose();
    try {
      this.#checked = await this.#maker.another(because);
    } catch (error) {
      this.#broken = error instanceof Error ? error : new Error(String(error));
      throw error;
    }
  }

  async #answer(
    { tokens: prompt }: Prompt,
    { task, system, sampling, seed, logprobs }: EngineRequest,
    hooks: Pick<AnswerPlan, 'onEvent' | 'recover' | 'constraint'>,
    signal: AbortSignal | undefined,
  ): Promise<Answered> {
    const onDecodeStep = (): void => {
      this.#decodeSteps += 1;
      if (this.#stopped) this.#decodeStepsAfterStop += 1;
    };
    const { stopIds } = this.#manifest.template;
    const meanings = this.#tokenizer;
    const expectedRate = this.#prefillRate;
    const how = { sampling, seed, logprobs, stopIds, meanings, expectedRate };
    const backend = (): Backend => this.#backend;
    const start = this.#kept === null ? [] : this.#prefixOf(task, system);
    const prefix = worthKeeping(this.#backend, start) ? start.length : 0;
    const plan = { prompt, prefix, ...how, ...hooks, onDecodeStep, signal, backend };
    try {
      const result = await answer(this.#session, plan);
      const { prefillTokensPerSecond: rate } = result;
      if (rate > 0 && prompt.length - result.reusedTokens >= TELLING_PREFILL) {
        this.#prefillRate = rate;
      }
      return result;
    } catch (error) {
      // What the cache holds after a failed pass is not known.
      this.#session.forget();
      throw error;
    }
  }
}
