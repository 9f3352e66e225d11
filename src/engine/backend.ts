import type { ModelConfig } from '../format/manifest.ts';

/** What the engine needs of a model that computes: `src/model` is one, tests script another. */
export interface Backend {
  readonly name: 'wgsl';
  /** What the activations are stored in; sums are f32 in both. */
  readonly variant: 'f32' | 'f16';
  /** The GPU's name, for a person. */
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

export interface PrefillOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}
