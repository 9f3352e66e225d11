import type { ModelConfig } from '../format/manifest.ts';
import type { SampleSettings } from './sampler.ts';

/** What the engine needs of a model that computes: `src/model` is one, tests script another. */
export interface Backend {
  readonly name: 'wgsl' | 'onnx';
  /** What the activations are stored in; sums are f32 in both. */
  readonly variant: 'f32' | 'f16';
  /** Activations or the KV cache are rounded to 8 bits: numbers are held to what f16 may lose. */
  readonly eightBits?: boolean;
  /** Long contexts and short passes take other kernels than a known answer does. */
  readonly longPaths?: boolean;
  /** What computes, for a person: the GPU's name, or the CPU's runtime. */
  readonly adapterName: string;
  readonly config: Pick<ModelConfig, 'vocab' | 'capacity'>;
  /** Tokens in the KV cache. */
  readonly position: number;

  /**
   * Appends tokens to the KV cache, in chunks.
   * @returns logits [V] of the last token, valid until the next call
   * @throws Failure Cancelled between chunks; `position` then says how far it came
   */
  prefill(tokens: readonly number[], options?: PrefillOptions): Promise<Float32Array>;
  /** Appends one token. @returns its logits [V], valid until the next call */
  decode(token: number): Promise<Float32Array>;
  /**
   * Chooses tokens where the logits of the last `prefill` or `decode` are, without reading them
   * back. Until the run has ended, other calls fail with Busy. Missing where only the CPU samples.
   * @throws RangeError for senseless settings; Failure PromptTooLong where `most` does not fit
   */
  run?(plan: RunPlan): TokenRun;
  /** The KV cache as bytes; missing where it cannot be taken out. */
  readonly rows?: CacheAccess;
  /** Forgets the KV cache from this position on. */
  truncate(position: number): void;
  /** Puts the task's gates in place and empties the KV cache. @returns elapsed milliseconds */
  setTask(task: string): number;
  /** Turns the per-token router on or off and empties the KV cache. @throws Failure NotRouted */
  setRouted(on: boolean): void;
  /** Every position's logits [T, V] of tokens that start a sequence; empties the KV cache. */
  forwardAll(tokens: readonly number[]): Promise<{ readonly logits: Float32Array }>;
  dispose(): void;
}

/** Keys and values out of a backend, and back into one that computes the very same. */
export interface CacheAccess {
  /** All that they depend on beside weights, gates and tokens: backend, device, kernels, types. */
  readonly identity: string;
  /** Bytes that so many tokens make. */
  bytes(tokens: number): number;
  /**
   * Those of the first tokens as they are when this is called; other calls need not wait for it.
   * @throws RangeError for more tokens than there are; Failure DeviceLost
   */
  read(tokens: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Puts them in place of all that the cache holds. @throws RangeError for other sizes */
  write(rows: Uint8Array<ArrayBuffer>, tokens: number): void;
}

export interface RunPlan {
  readonly sampling: SampleSettings;
  readonly seed: number;
  /** The answer's tokens so far: the penalties look back on them. */
  readonly answer: readonly number[];
  /** Tokens that may be asked for. */
  readonly most: number;
}

/** Tokens of an answer; steps after the next token may be under way already. */
export interface TokenRun {
  /** The next token; from the second on, a decode step ends with each. @throws Failure WrongNumbers, DeviceLost: the run has ended then */
  next(): Promise<number>;
  /**
   * Waits for what is under way; the cache then holds its keys and values too.
   * @returns decode steps whose tokens nobody asked for
   */
  end(): Promise<number>;
}

export interface PrefillOptions {
  readonly signal?: AbortSignal;
  /** False leaves the logits where `run` finds them, and what is returned says nothing. Default true. */
  readonly read?: boolean;
  readonly onProgress?: (done: number, total: number) => void;
}
