/** The border between the page and the worker: types only. */

export type TaskId = string; // 'medkqa' | 'evidiag' | 'trerecom' in our packages

export interface Turn {
  readonly role: 'user' | 'assistant';
  readonly text: string;
  /** A turn that stays, with its question or answer, where a long conversation loses its oldest. */
  readonly pinned?: boolean;
}

/** What this browser offers. */
export interface DeviceReport {
  readonly webgpu: boolean;
  readonly adapter: string; // vendor, architecture, description as far as the browser tells
  readonly software: boolean; // a driver in software: the CPU computes
  readonly shaderF16: boolean;
  readonly subgroups: boolean;
}

/** What shall compute: the better one, our shaders, or ONNX Runtime on the CPU. */
export type BackendChoice = 'auto' | 'webgpu' | 'cpu';

/** `upload` is into the GPU's memory, `memory` into ONNX Runtime's. */
export type LoadPhase =
  'manifest' | 'check' | 'download' | 'upload' | 'memory' | 'compile' | 'self-test';

export interface LoadProgress {
  readonly phase: LoadPhase;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** The file in hand while checking or downloading. */
  readonly file: string | null;
  /** True where the bytes come over the network. */
  readonly network: boolean;
}

export interface ModelInfo {
  readonly id: string;
  readonly name: { readonly zh: string; readonly en: string };
  readonly licence: string;
  readonly intendedUse: { readonly zh: string; readonly en: string };
  readonly limits: { readonly zh: string; readonly en: string };
  readonly bytes: number; // the whole package
  readonly parameters: number;
  readonly capacity: number; // tokens that a conversation may have
  readonly tasks: readonly { readonly id: TaskId; readonly title: { zh: string; en: string } }[];
  readonly adapterMode: 'merged' | 'routed' | 'none';
  readonly sampling: SamplingSettings;
  readonly backend: 'wgsl' | 'onnx';
  readonly variant: string; // 'f32' | 'f16'
  readonly adapter: string; // the GPU's name, or the CPU with its runtime
  /** How far the known-answer test was from its record; null where the package has none. */
  readonly selfTest: { readonly maxLogitDifference: number; readonly tolerance: number } | null;
  /** What was tried before that which computes now, and was left; empty where the first way was good. */
  readonly fellBack: readonly FellBack[];
  /** What it was trained on, as far as the package says. */
  readonly data: readonly {
    readonly source: string;
    readonly licence: string;
    readonly records: number;
  }[];
  /**
   * Another edition of the package was opened, since the one that was asked for by its key is not here
   * any more: the key of what was opened. Left out where it is what was asked for.
   */
  readonly insteadKey?: string;
  /** Files that had to come over the network this time. */
  readonly fetched: readonly string[];
}

/** A way of computing that failed when the model was to be loaded. */
export interface FellBack {
  readonly from: string; // for whoever knows: 'WebGPU f16'
  readonly because: 'WrongNumbers' | 'DeviceLost' | 'DeviceLimit' | 'NoWebGpu';
}

export interface SamplingSettings {
  readonly temperature: number; // 0 is greedy
  readonly topK: number; // 0 is off
  readonly topP: number; // 1 is off
  readonly repetitionPenalty: number; // 1 is off
  /** Taken off the logit of every token of the answer so far, once; 0 and left out: off. */
  readonly presencePenalty?: number;
  /** Tokens less likely than this share of the likeliest go; 0 and left out: off. */
  readonly minP?: number;
  readonly maxTokens: number;
}

/** What an answer has to look like; tokens that would break it cannot be chosen. */
export type OutputFormat =
  /** JSON without free white space that follows a JSON schema; unknown properties are left out. */
  | { readonly kind: 'json'; readonly schema: Readonly<Record<string, unknown>> }
  /** The whole answer matches a regular expression. */
  | { readonly kind: 'regex'; readonly pattern: string };

export interface GenerateRequest {
  readonly task: TaskId;
  readonly turns: readonly Turn[]; // ends with a user turn
  readonly sampling: SamplingSettings;
  readonly seed: number;
  /** A system text in the place of the task's own; left out, the package decides. */
  readonly system?: string;
  /** Log-probabilities of every token, and of so many likeliest ones beside it (0 to 20). */
  readonly logprobs?: number;
  readonly format?: OutputFormat;
}

/** How likely the model found a token, before penalties and temperature. */
export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number; // natural logarithm
  readonly top: readonly { readonly id: number; readonly logprob: number }[]; // likeliest first
}

export type GenerateEvent =
  | {
      readonly kind: 'prefill';
      readonly done: number; // tokens
      readonly total: number;
      /** What is left at the speed so far, of this answer or of the last; null while unknown. */
      readonly remainingMs: number | null;
    }
  | { readonly kind: 'piece'; readonly text: string; readonly outputTokens: number }
  /** The GPU failed; the model is loaded anew and the answer goes on where it was. */
  | { readonly kind: 'recovery'; readonly because: 'WrongNumbers' | 'DeviceLost' };

export interface GenerateResult {
  readonly text: string;
  readonly tokens: readonly number[]; // sampled, the stop token left out
  readonly promptTokens: number; // of what the model was given
  /** Earlier questions that the model was not given, since the conversation is too long. */
  readonly droppedQuestions: number;
  readonly reusedTokens: number; // of them already in the KV cache
  readonly outputTokens: number;
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
  readonly taskSwitchMs: number; // what writing the gates took, 0 where the task stayed
  readonly finish: 'stop' | 'length' | 'cancelled';
  /** What computed its end: after a failure of the GPU it may be another than before. */
  readonly ran: Pick<ModelInfo, 'backend' | 'variant' | 'adapter'>;
  /** Failures of the GPU that the answer has survived, in their order. */
  readonly recoveries: readonly ('WrongNumbers' | 'DeviceLost')[];
  /** Of every token of the answer; only where the request asked for them. */
  readonly logprobs?: readonly TokenLogprob[];
}

/** What the worker counts, so that tests can hold it to its word. */
export interface WorkerCounts {
  readonly decodeSteps: number;
  /** Decode steps that ran after the last stop had arrived. */
  readonly decodeStepsAfterStop: number;
}

export interface OpenOptions {
  /** The plainest kernels, few tokens at a time, a small cache: slower, for a device that failed before. */
  readonly careful?: boolean;
  /** Default 'auto'. */
  readonly backend?: BackendChoice;
  /** Takes the model from another window that uses it. */
  readonly takeOver?: boolean;
}

export interface EngineApi {
  probe(): Promise<DeviceReport>;
  /**
   * Loads a package. `url` is the folder of its manifest, same origin, ending in '/', or
   * `installed:KEY` for one that is here. One window of a browser may have a model at a time: fails
   * with OtherWindow where another has.
   */
  open(
    url: string,
    onProgress: (progress: LoadProgress) => void,
    options?: OpenOptions,
  ): Promise<ModelInfo>;
  /** One answer at a time; a second call while one runs fails with Busy. */
  generate(
    request: GenerateRequest,
    onEvent: (event: GenerateEvent) => void,
  ): Promise<GenerateResult>;
  /**
   * Ends the running answer or load; resolves at once. The answer resolves with finish 'cancelled',
   * the load fails with Cancelled at its next step; what is stored of the package by then stays.
   */
  stop(): Promise<void>;
  counts(): Promise<WorkerCounts>;
  /**
   * Resolves when the GPU device is lost, with the reason; fails with OtherWindow when another
   * window has taken the model.
   */
  lost(): Promise<string>;
  /** Ends a running answer and lets go of the model, so that another worker or window may have one. */
  close(): Promise<void>;
}

/** The engine as the page has it: behind a worker that can be replaced. */
export interface PageEngine extends EngineApi {
  /**
   * Ends the worker although it may be in an endless loop: calls under way fail with WorkerHung, and
   * the next call starts another worker, which has no model yet. Resolves once the browser has freed
   * what it held, or has had its time: then with false.
   */
  renew(): Promise<boolean>;
}

/** The address of an installed package, for `EngineApi.open`. */
export const INSTALLED = 'installed:';

/** Where a package comes from: one way in for all. */
export type InstallSource =
  | { readonly kind: 'url'; readonly url: string } // its folder, ending in '/'
  | { readonly kind: 'folder'; readonly folder: FileSystemDirectoryHandle }
  | { readonly kind: 'files'; readonly files: readonly File[] };

/** A package that is here, in part or whole, or that the site brings along. */
export interface ModelEntry {
  /** Names the package here: its id and the start of its manifest's SHA-256. */
  readonly key: string;
  readonly id: string;
  readonly name: { readonly zh: string; readonly en: string };
  readonly licence: string;
  readonly parameters: number;
  readonly capacity: number; // tokens that a conversation may have
  /** 'available': on this site, nothing of it is here. */
  readonly state: 'ready' | 'partial' | 'available';
  /** The person stopped its install. */
  readonly paused: boolean;
  readonly bytes: number; // the whole package
  readonly usedBytes: number; // of this device's storage
  /** Bytes of memory while it runs: weights, and keys and values of a full conversation in f32. */
  readonly memoryBytes: number;
  /** What computes it on this device; 'none' where nothing here can. */
  readonly runs: 'wgsl' | 'onnx' | 'none';
  /** Whether the CPU could run it. */
  readonly cpu: boolean;
  /** Where it came from; null where that is forgotten. */
  readonly source: { readonly kind: 'url' | 'folder'; readonly from: string } | null;
}

/** How an install ended: whole, or stopped by the person and to be continued. */
export interface InstallResult {
  readonly key: string | null; // null where it was stopped before anything was known
  readonly state: 'ready' | 'paused';
}

export interface StorageReport {
  readonly usedBytes: number; // of all packages, summed by ourselves
  /** Whether the browser promised not to clear it by itself. */
  readonly persisted: boolean;
  /** The browser's own figures, which are no promise; null where it gives none. */
  readonly estimate: { readonly usage: number; readonly quota: number } | null;
}

/** What a computation on this device came to. */
export interface DeviceCheck {
  readonly adapter: string;
  readonly milliseconds: number;
  /** The largest difference from the same computed on the CPU, and what rounding explains. */
  readonly difference: number;
  readonly tolerance: number;
  /** How much memory the GPU was asked for, and whether it gave it; null where nobody asked. */
  readonly memory: { readonly bytes: number; readonly granted: boolean } | null;
}

/** The packages of this browser. */
export interface ModelsApi {
  /** `bundled`: addresses of packages that the site brings along. */
  list(bundled: readonly string[]): Promise<readonly ModelEntry[]>;
  /** One at a time: fails with Busy while another runs. Goes on where an earlier one stopped. */
  install(
    source: InstallSource,
    onProgress: (progress: LoadProgress) => void,
  ): Promise<InstallResult>;
  /** Goes on with a package that began here, from where it came. @throws BadFolder: pick it again */
  resume(key: string, onProgress: (progress: LoadProgress) => void): Promise<InstallResult>;
  /** Stops the running install or export, which ends then; what is here stays. */
  pause(): Promise<void>;
  /** Removes a package; one that is loaded is unloaded first. */
  remove(key: string): Promise<void>;
  /** Copies a package into a folder of its own below `folder`; gives that folder's name. */
  exportTo(
    key: string,
    folder: FileSystemDirectoryHandle,
    onProgress: (progress: LoadProgress) => void,
  ): Promise<string>;
  storage(): Promise<StorageReport>;
  /** Computes something on the GPU and compares it; asks it for `bytes` of memory where given. */
  check(bytes: number | null): Promise<DeviceCheck>;
}
