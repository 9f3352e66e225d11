import type { GenerateEvent, LoadPhase, SamplingSettings } from '../worker/api.ts';

/**
 * What a comparison asks of whatever answers on one of its sides, and what is known of a model
 * compiled with MLC that a person has imported. Types only.
 */

/** How far loading is. */
export interface SideProgress {
  readonly phase: LoadPhase;
  /** Between 0 and 1; null while nobody knows. */
  readonly part: number | null;
  /** It waits for whoever else is busy with the package. */
  readonly waits?: true;
}

/** What computes a side, and which model it is. */
export interface SideModel {
  readonly model: string;
  readonly backend: 'wgsl' | 'onnx' | 'web-llm';
  /** The accuracy it computes in; '' where that is not known. */
  readonly variant: string;
  /** The GPU's name, or the CPU with its runtime. */
  readonly adapter: string;
}

export interface SideRequest {
  readonly question: string;
  /** A system text in the place of the model's own; '' for that one. */
  readonly system: string;
  readonly sampling: SamplingSettings;
  readonly seed: number;
}

export interface SideResult {
  readonly text: string;
  readonly promptTokens: number;
  readonly reusedTokens: number; // of them already computed
  readonly outputTokens: number;
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
  readonly finish: 'stop' | 'length' | 'cancelled';
  /** What computed the end of the answer. */
  readonly ran: Omit<SideModel, 'model'>;
}

/** One side's engine, from its start to its end. It is used once and disposed of always. */
export interface SideEngine {
  /** @throws Failure, Cancelled where the signal ends it */
  load(onProgress: (progress: SideProgress) => void, signal: AbortSignal): Promise<SideModel>;
  /**
   * One answer, piece by piece. The signal ends it: it resolves with finish 'cancelled' then.
   * `onSign`: what shows besides that it goes on, and what the engine expects.
   * @throws Failure
   */
  generate(
    request: SideRequest,
    onPiece: (piece: string) => void,
    signal: AbortSignal,
    onSign: (event: GenerateEvent) => void,
  ): Promise<SideResult>;
  /** Ends the worker although it may be in an endless loop: calls under way fail with WorkerHung. */
  end(): void;
  /** Gives back memory and GPU, also in the middle of something. Never rejects. */
  dispose(): Promise<void>;
}

/** A file that the person picked, by its name in its folder. */
export interface PeerFile {
  readonly name: string;
  readonly file: File;
}

/** Files of one folder. */
export interface PeerFolder {
  readonly name: string;
  readonly files: readonly PeerFile[];
}

/** What can be wrong with a folder, before anything of it runs. */
export type PeerProblemKind =
  | 'no-config' // no mlc-chat-config.json: not a folder of an MLC model
  | 'several-models' // more than one folder that has one
  | 'too-many-files' // a whole disk was picked
  | 'missing' // a file that another one names
  | 'twice' // one name for two things
  | 'bad-name' // a manifest names something that is no plain file name
  | 'too-large' // larger than any such file can be
  | 'config' // mlc-chat-config.json does not say what it has to
  | 'manifest' // tensor-cache.json does not say what it has to, or contradicts itself
  | 'size' // a file has fewer or more bytes than the manifest says
  | 'checksum' // the right number of bytes, the wrong MD5
  | 'no-library' // no .wasm file
  | 'several-libraries'
  | 'not-wasm' // the library is no WebAssembly
  | 'not-tvm' // WebAssembly, but nothing that TVM made
  | 'old-library' // made for an older runtime
  | 'unreadable' // the browser may not read the file, or it changed
  | 'no-webgpu'
  | 'needs-f16' // the library computes in halves and this GPU does not
  | 'gpu-too-small'; // a limit of this GPU is below what the runtime asks for

export interface PeerProblem {
  readonly kind: PeerProblemKind;
  /** The file that is wrong; '' where no single one is. */
  readonly file: string;
  /** What exactly: a field, a name, two numbers. Not in words. */
  readonly detail: string;
}

/** A folder that passed every check. */
export interface PeerModel {
  readonly name: string; // of its folder
  readonly bytes: number; // of its weights
  readonly tensors: number;
  readonly contextTokens: number; // -1 where it slides
  readonly library: { readonly name: string; readonly bytes: number; readonly sha256: string };
  readonly manifest: { readonly name: string; readonly sha256: string };
  /** Whether the weights had MD5 sums to be compared with. */
  readonly hasChecksums: boolean;
  readonly needsF16: boolean;
  /** Only these files are ever given to the runtime. */
  readonly files: readonly PeerFile[];
}

export type PeerCheck =
  | { readonly problem: PeerProblem; readonly model: null }
  | { readonly problem: null; readonly model: PeerModel };

/** The worker's side of the border. */
export interface PeerApi {
  /** Looks at a folder; `onProgress` is told how much of the weights was read. */
  check(folder: PeerFolder, onProgress: (part: number) => void): Promise<PeerCheck>;
  /** Loads a folder that passed the check. @throws Failure */
  open(model: PeerModel, onProgress: (progress: SideProgress) => void): Promise<SideModel>;
  generate(request: SideRequest, onPiece: (piece: string) => void): Promise<SideResult>;
  /** Ends the running answer. */
  stop(): Promise<void>;
  close(): Promise<void>;
  /** The name of a lock that the worker holds as long as it lives. */
  life(): Promise<string>;
}
