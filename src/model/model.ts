import { Failure } from '../failure.ts';
import type { Manifest, ModelConfig } from '../format/manifest.ts';
import type { GpuDevice, Variant } from '../gpu/device.ts';
import { Gpu } from '../gpu/gpu.ts';
import type { SampleSettings } from '../gpu/kernels/sample_scores.ts';
import { planAdapter } from './adapter.ts';
import { CacheRows } from './cache-rows.ts';
import { checkSizes, sizesOf } from './config.ts';
import { createForward, type Forward, type ForwardParts } from './forward.ts';
import { Pace } from './pace.ts';
import { Passes } from './passes.ts';
import { profile, type KernelTimes } from './profile.ts';
import { createSamplingBuffers, Sampling, type Choice } from './sampling.ts';
import { createState } from './state.ts';
import { TokenRun } from './token-run.ts';
import { traceTokens, type Trace } from './trace.ts';
import { Uploads, type UploadProgress } from './uploads.ts';
import { planWeights } from './weights.ts';

export interface PrefillOptions {
  readonly signal?: AbortSignal;
  /** False leaves the logits on the GPU, where `run` finds them. Default true. */
  readonly read?: boolean;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * A package's model on the GPU with one conversation's KV cache. A call that overlaps another
 * fails with Busy.
 * Whatever waits for the GPU fails with DeviceLost where the GPU goes away.
 */
export class Model {
  readonly config: ModelConfig;
  readonly variant: Variant;
  readonly #gpu: Gpu;
  readonly #parts: ForwardParts;
  readonly #forward: Forward;
  readonly #sampling: Sampling;
  readonly #passes: Passes;
  readonly #rows: CacheRows;
  readonly #pace: Pace;
  readonly #tasks: ReadonlySet<string>;
  readonly #logits: Float32Array<ArrayBuffer>; // [V], the same in every call
  #routed: boolean;
  #position = 0;
  /** The tokens before the logits that the GPU holds; 0 where nobody knows. */
  #logitsAt = 0;
  #busy = false;

  private constructor(
    manifest: Manifest,
    parts: ForwardParts,
    forward: Forward,
    sampling: Sampling,
  ) {
    this.config = manifest.config;
    this.variant = parts.gpu.variant;
    this.#gpu = parts.gpu;
    this.#parts = parts;
    this.#forward = forward;
    this.#sampling = sampling;
    this.#rows = new CacheRows(parts.gpu, parts.sizes, parts.state);
    this.#pace = new Pace(parts.state.chunk);
    this.#passes = new Passes(parts, forward, sampling);
    this.#tasks = new Set(manifest.tasks.map(({ id }) => id));
    this.#logits = new Float32Array(manifest.config.vocab);
    this.#routed = parts.adapter?.info.mode === 'routed';
  }

  /**
   * Loads a package that `parseManifest` accepted: one file at a time, none of them kept. The
   * first task's gates are in place; a package with a router starts with it on.
   * @throws Failure DeviceLimit, BadPackage, DeviceLost, and what `read` throws
   */
  static async load(
    owner: GpuDevice,
    manifest: Manifest,
    read: (file: string) => Promise<Uint8Array>,
    onProgress: (progress: UploadProgress) => void = () => undefined,
  ): Promise<Model> {
    const gpu = new Gpu(owner);
    try {
      const sizes = sizesOf(manifest.config);
      checkSizes(gpu, sizes);
      const uploads = new Uploads();
      // All buffers are made before a file is read: what does not fit is told at once.
      const { parts, buffers } = await gpu.withinMemory(manifest.id, () => {
        const weights = planWeights(gpu, manifest, uploads);
        const adapter = planAdapter(gpu, manifest, uploads);
        const state = createState(gpu, sizes, adapter);
        const buffers = createSamplingBuffers(gpu, sizes.vocab);
        return { parts: { gpu, sizes, weights, adapter, state }, buffers };
      });
      // Steps need buffers, not what is in them: kernels compile while files are read.
      const [forward, sampling] = await gpu.withinMemory(manifest.id, () =>
        allDone((stop) => [
          createForward(parts),
          Sampling.create(gpu, sizes.vocab, parts.state, buffers),
          uploads.run(gpu, manifest, read, onProgress, stop),
        ]),
      );
      const model = new Model(manifest, parts, forward, sampling);
      const [first] = manifest.tasks;
      if (first !== undefined) model.setTask(first.id);
      return model;
    } catch (error) {
      gpu.dispose();
      throw error;
    }
  }

  /** Tokens in the KV cache. */
  get position(): number {
    return this.#position;
  }

  /**
   * Appends tokens to the KV cache, in chunks.
   * @returns logits [V] of the last token, valid until the next call; those of another pass where
   *   they are not to be read
   * @throws Failure Cancelled between chunks (`position` says how far it came), PromptTooLong
   */
  async prefill(tokens: readonly number[], options: PrefillOptions = {}): Promise<Float32Array> {
    const { signal, onProgress, read = true } = options;
    return this.#alone(tokens, async () => {
      let done = 0;
      while (done < tokens.length) {
        if (signal?.aborted) throw new Failure('Cancelled', `stopped after ${done} tokens`);
        const chunk = tokens.slice(done, done + this.#parts.state.chunk);
        done += chunk.length;
        const last = done === tokens.length;
        const start = performance.now();
        this.#submit(chunk, last);
        if (last && read) await this.#gpu.read(this.#parts.state.staging, this.#logits);
        else await this.#gpu.idle();
        this.#pace.took(performance.now() - start, chunk.length, this.#parts.sizes.layers);
        onProgress?.(done, tokens.length);
      }
      return this.#logits;
    });
  }

  /**
   * Appends one token.
   * @returns its logits [V], valid until the next call
   * @throws Failure PromptTooLong where the cache is full
   */
  async decode(token: number): Promise<Float32Array> {
    const tokens = [token];
    return this.#alone(tokens, async () => {
      this.#submit(tokens, true);
      await this.#gpu.read(this.#parts.state.staging, this.#logits);
      return this.#logits;
    });
  }

  /**
   * Tokens chosen on the GPU, the first by the logits of the last prefill or decode step. Until
   * the run has ended, other calls fail with Busy; it leaves the cache with what its steps wrote,
   * whether their tokens were asked for or not.
   * @param answer the answer's tokens before these: what the penalties know of
   * @param most tokens that may be asked for
   * @throws RangeError before any logits; PromptTooLong where the cache has no room for the steps
   */
  run(settings: Omit<SampleSettings, 'start'>, answer: readonly number[], most: number): TokenRun {
    this.#checkIdle();
    if (this.#position === 0 || this.#logitsAt !== this.#position) {
      throw new RangeError(`there are no logits to choose token ${this.#position} by`);
    }
    if (!Number.isInteger(most) || most < 1) throw new RangeError(`a run of ${most} tokens`);
    this.#checkRoom(most - 1);
    this.#busy = true;
    this.#sampling.begin({ ...settings, start: this.#position - answer.length }, answer);
    return new TokenRun(most, {
      depth: this.#sampling.depth,
      submit: (step) => this.#submitChoice(step),
      ended: () => {
        this.#busy = false;
      },
    });
  }

  /** Forgets the KV cache from this position on. */
  truncate(position: number): void {
    this.#checkIdle();
    if (!Number.isInteger(position) || position < 0 || position > this.#position) {
      throw new RangeError(`cannot truncate ${this.#position} positions to ${position}`);
    }
    this.#position = position;
  }

  /** All that the numbers in the cache depend on beside weights, gates and tokens: a key for them. */
  get program(): string {
    return this.#gpu.program;
  }

  /** Bytes that `readCache` gives of so many tokens. */
  cacheBytes(tokens: number): number {
    return this.#rows.bytes(tokens);
  }

  /**
   * Keys and values of the first tokens in the cache, as they are now: calls that follow at once
   * change nothing in them, and need not wait.
   * @throws RangeError for more tokens than there are; Failure DeviceLost
   */
  async readCache(tokens: number): Promise<Uint8Array<ArrayBuffer>> {
    this.#checkIdle();
    if (tokens > this.#position) {
      throw new RangeError(`the cache holds ${this.#position} tokens, not ${tokens}`);
    }
    return this.#rows.read(tokens);
  }

  /**
   * Empties the cache and puts keys and values in that `readCache` gave, on a model of the same
   * weights, gates and `program`.
   * @throws RangeError for bytes that are not those of so many tokens
   */
  writeCache(rows: Uint8Array<ArrayBuffer>, tokens: number): void {
    this.#checkIdle();
    this.#position = 0;
    this.#checkRoom(tokens);
    this.#rows.write(rows, tokens);
    this.#position = tokens;
    this.#logitsAt = 0;
  }

  /**
   * Puts the gates of a task in place. They change every key and value, so the cache is emptied.
   * @returns elapsed milliseconds until the GPU has them queued
   * @throws Failure UnknownTask
   */
  setTask(task: string): number {
    if (!this.#tasks.has(task)) {
      throw new Failure('UnknownTask', `this package has no task ${task}`);
    }
    this.#checkIdle();
    const start = performance.now();
    this.#parts.adapter?.setTask(task);
    this.#gpu.device.queue.submit([]);
    this.#position = 0;
    return performance.now() - start;
  }

  /**
   * Gates from the router, token by token, or from the task. Empties the cache.
   * @throws Failure NotRouted where the package carries no router
   */
  setRouted(on: boolean): void {
    if (on && this.#parts.adapter?.info.mode !== 'routed') {
      throw new Failure('NotRouted', 'this package carries no router');
    }
    this.#checkIdle();
    this.#routed = on;
    this.#position = 0;
  }

  /** Logits [T, V] at every position of tokens that start a sequence. Empties the cache. */
  async forwardAll(tokens: readonly number[]): Promise<{ readonly logits: Float32Array }> {
    const { logits } = await this.trace(tokens);
    return { logits };
  }

  /** As forwardAll, with the residual stream after every layer: slow, for tests. */
  async trace(tokens: readonly number[]): Promise<Trace> {
    this.truncate(0);
    this.#logitsAt = 0;
    return this.#alone(tokens, () => traceTokens(this.#parts, this.#forward, tokens, this.#routed));
  }

  /** GPU time of one pass by kernel, in milliseconds; null where the GPU has no timestamps. */
  async profile(tokens: readonly number[]): Promise<KernelTimes | null> {
    const { chunk } = this.#parts.state;
    if (tokens.length > chunk) {
      throw new RangeError(`a pass takes ${chunk} tokens, not ${tokens.length}`);
    }
    return this.#alone(tokens, () => {
      const steps = this.#passes.prepare(tokens, this.#position, this.#routed);
      this.#logitsAt = 0;
      return profile(this.#gpu, steps, this.#forward.head, tokens.length);
    });
  }

  dispose(): void {
    this.#gpu.dispose();
  }

  /**
   * Runs what waits for the GPU, one call at a time.
   * @throws Failure Busy, PromptTooLong; RangeError for tokens that this model does not have
   */
  async #alone<T>(tokens: readonly number[], work: () => Promise<T>): Promise<T> {
    this.#checkIdle();
    const { vocab } = this.config;
    if (tokens.length === 0) throw new RangeError('no tokens');
    const bad = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocab);
    if (bad !== undefined) throw new RangeError(`token ${bad} is not in the vocabulary`);
    this.#checkRoom(tokens.length);
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#busy = false;
    }
  }

  #checkRoom(tokens: number): void {
    const { capacity } = this.config;
    if (this.#position + tokens <= capacity) return;
    const message = `${this.#position} and ${tokens} tokens, room for ${capacity}`;
    throw new Failure('PromptTooLong', message);
  }

  #checkIdle(): void {
    if (this.#busy) throw new Failure('Busy', 'the model is computing');
  }

  /** Queues a choice by the logits that are there, after the decode step of the last one where asked. */
  #submitChoice(step: boolean): Promise<Choice> {
    const choice = this.#passes.choose(step ? this.#position : null, this.#routed);
    if (step) {
      this.#position += 1;
      this.#logitsAt = this.#position;
    }
    return choice;
  }

  /** Queues a pass of these tokens; with the head, the last token's logits go to the staging buffer. */
  #submit(tokens: readonly number[], head: boolean): void {
    this.#passes.submit(tokens, this.#position, { routed: this.#routed, head, pace: this.#pace });
    this.#position += tokens.length;
    this.#logitsAt = head ? this.#position : 0;
  }
}

/**
 * Promise.all of works that are told when one has failed, and have all ended before that is told
 * here: what they use may be destroyed then.
 */
async function allDone<T extends readonly Promise<unknown>[]>(
  start: (stop: AbortSignal) => readonly [...T],
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const failed = new AbortController();
  const works = start(failed.signal);
  for (const work of works) work.catch(() => failed.abort());
  await Promise.allSettled(works);
  return Promise.all(works);
}
