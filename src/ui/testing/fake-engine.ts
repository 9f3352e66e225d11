import { Failure } from '../../failure.ts';
import type {
  DeviceReport,
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  LoadProgress,
  OpenOptions,
  ModelInfo,
  PageEngine,
  WorkerCounts,
} from '../../worker/api.ts';

/** What a scripted engine does. Everything it is asked is written down. */
export interface Script {
  readonly device?: Partial<DeviceReport>;
  readonly progress?: readonly LoadProgress[];
  readonly info?: Partial<ModelInfo>;
  /** Thrown by `open`, one after another; then it opens. */
  readonly openFailures?: Error[];
  /** The pieces of each answer in turn; the last goes on for ever. */
  readonly answers?: readonly (readonly string[])[];
  /** Thrown by `generate` after this many pieces, once. */
  readonly failure?: { readonly after: number; readonly error: Error };
  readonly finish?: 'stop' | 'length';
  readonly droppedQuestions?: number;
  readonly recoveries?: GenerateResult['recoveries'];
  readonly ran?: GenerateResult['ran'];
  /** The GPU fails after so many pieces, and the answer goes on. */
  readonly recoverAfter?: number;
  /** Waited for between two steps; a test holds the engine with it. */
  readonly pause?: () => Promise<void>;
}

const sampling = { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1.1, maxTokens: 256 };

export const fakeInfo: ModelInfo = {
  id: 'fake',
  name: { zh: '假模型', en: 'Fake model' },
  licence: 'MIT',
  intendedUse: { zh: '测试', en: 'Tests' },
  limits: { zh: '什么都不懂', en: 'Knows nothing' },
  bytes: 13_107_200,
  parameters: 15_000_000,
  capacity: 1024,
  tasks: ['medkqa', 'evidiag', 'trerecom'].map((id) => ({ id, title: { zh: id, en: id } })),
  adapterMode: 'merged',
  sampling,
  backend: 'wgsl',
  variant: 'f32',
  adapter: 'fake adapter',
  selfTest: { maxLogitDifference: 0.0003, tolerance: 0.01 },
  fellBack: [],
  data: [{ source: 'ours', licence: 'MIT', records: 3 }],
  fetched: ['shard-00000.bin'],
};

/** An engine that follows a script and keeps the rules of `EngineApi`: one answer at a time. */
export class FakeEngine implements PageEngine {
  readonly requests: GenerateRequest[] = [];
  readonly careful: boolean[] = [];
  readonly opened: string[] = [];
  /** What was asked to compute, by each `open`. */
  readonly backends: OpenOptions['backend'][] = [];
  stops = 0;
  closes = 0;
  renews = 0;
  /** Runs when an answer is asked for, before anything else. */
  onGenerate: () => void = () => undefined;
  readonly #script: Script;
  #isRunning = false;
  #isStopped = false;
  #failure: Script['failure'];
  #lose: (reason: string) => void = () => undefined;
  readonly #lost: Promise<string>;
  #end: (error: Failure) => void = () => undefined;
  #ended: Promise<never> = this.#nextEnd();

  constructor(script: Script = {}) {
    this.#script = script;
    this.#failure = script.failure;
    this.#lost = new Promise((resolve) => {
      this.#lose = resolve;
    });
  }

  probe(): Promise<DeviceReport> {
    const features = { software: false, shaderF16: false, subgroups: false };
    const device = { webgpu: true, adapter: 'fake adapter', ...features };
    return Promise.resolve({ ...device, ...this.#script.device });
  }

  open(
    url: string,
    onProgress: (progress: LoadProgress) => void,
    options: OpenOptions = {},
  ): Promise<ModelInfo> {
    return Promise.race([this.#open(url, onProgress, options), this.#ended]);
  }

  async #open(
    url: string,
    onProgress: (progress: LoadProgress) => void,
    options: OpenOptions,
  ): Promise<ModelInfo> {
    this.#isStopped = false;
    this.opened.push(url);
    this.careful.push(options.careful === true);
    this.backends.push(options.backend);
    for (const progress of this.#script.progress ?? []) {
      onProgress(progress);
      await this.#script.pause?.();
      if (this.#isStopped) throw new Failure('Cancelled', 'the load was stopped');
    }
    const failure = this.#script.openFailures?.shift();
    if (failure) throw failure;
    return { ...fakeInfo, ...this.#script.info };
  }

  async generate(
    request: GenerateRequest,
    onEvent: (event: GenerateEvent) => void,
  ): Promise<GenerateResult> {
    if (this.#isRunning) throw new Error('the page asked twice at once');
    this.onGenerate();
    this.#isRunning = true;
    this.#isStopped = false;
    this.requests.push(structuredClone(request));
    try {
      return await Promise.race([this.#answer(onEvent), this.#ended]);
    } finally {
      this.#isRunning = false;
    }
  }

  stop(): Promise<void> {
    this.stops += 1;
    this.#isStopped = true;
    return Promise.resolve();
  }

  counts(): Promise<WorkerCounts> {
    return Promise.resolve({ decodeSteps: 0, decodeStepsAfterStop: 0 });
  }

  lost(): Promise<string> {
    return this.#lost;
  }

  close(): Promise<void> {
    this.closes += 1;
    return this.stop();
  }

  /** As a worker that is ended: calls under way fail. */
  renew(): Promise<boolean> {
    this.renews += 1;
    const end = this.#end;
    this.#ended = this.#nextEnd();
    end(new Failure('WorkerHung', 'ended'));
    return Promise.resolve(true);
  }

  /** Takes the GPU away. */
  lose(reason: string): void {
    this.#lose(reason);
  }

  #nextEnd(): Promise<never> {
    const ended = new Promise<never>((_, reject) => (this.#end = reject));
    ended.catch(() => undefined);
    return ended;
  }

  async #answer(onEvent: (event: GenerateEvent) => void): Promise<GenerateResult> {
    const answers = this.#script.answers ?? [['好的', '。']];
    const pieces = answers[Math.min(this.requests.length, answers.length) - 1] ?? [];
    for (const done of [16, 32]) {
      onEvent({ kind: 'prefill', done, total: 32, remainingMs: (32 - done) * 250 });
      await this.#script.pause?.();
    }
    let text = '';
    for (const [i, piece] of pieces.entries()) {
      if (this.#isStopped) break;
      if (this.#failure?.after === i) {
        const { error } = this.#failure;
        this.#failure = undefined;
        throw error;
      }
      if (this.#script.recoverAfter === i) {
        onEvent({ kind: 'recovery', because: 'DeviceLost' });
        onEvent({ kind: 'prefill', done: 0, total: 32, remainingMs: null });
      }
      text += piece;
      onEvent({ kind: 'piece', text: piece, outputTokens: i + 1 });
      await this.#script.pause?.();
    }
    return {
      text,
      tokens: [],
      promptTokens: 32,
      droppedQuestions: this.#script.droppedQuestions ?? 0,
      reusedTokens: 0,
      outputTokens: pieces.length,
      prefillTokensPerSecond: 100,
      decodeTokensPerSecond: 12.34,
      taskSwitchMs: 1,
      ran: this.#script.ran ?? { backend: 'wgsl', variant: 'f32', adapter: 'fake adapter' },
      recoveries: this.#script.recoveries ?? [],
      finish: this.#isStopped ? 'cancelled' : (this.#script.finish ?? 'stop'),
    };
  }
}
