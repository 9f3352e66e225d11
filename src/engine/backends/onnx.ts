import type * as Ort from 'onnxruntime-web';
import { Failure } from '../../failure.ts';
import type { Manifest } from '../../format/manifest.ts';
import { fitsUnpacked } from '../../onnx/limits.ts';
import { onnxModel } from '../../onnx/model.ts';
import type { Backend, CacheAccess, PrefillOptions } from '../backend.ts';
import { OnnxCache } from './onnx-cache.ts';

/** Tokens of a prefill pass: stop is answered and progress told between passes. */
const CHUNK = 32;

/** ONNX Runtime as its host has loaded it. */
export interface OnnxRuntime {
  readonly Tensor: typeof Ort.Tensor;
  /** What it is and with how many threads, for a person. */
  readonly name: string;
  /** @throws Failure NotFound, Offline where its own files are missing */
  createSession(
    model: Uint8Array,
    options: Ort.InferenceSession.SessionOptions,
  ): Promise<Ort.InferenceSession>;
}

/**
 * Makes a session of a package: the graph is built from the manifest, the shards are its weights.
 * Their bytes are let go as soon as ONNX Runtime has its own, which a small model has in f32.
 * @throws Failure CpuLimit, and what `read` and the runtime throw
 */
export async function openOnnx(
  runtime: OnnxRuntime,
  manifest: Manifest,
  read: (file: string) => Promise<Uint8Array>,
  onProgress: (progress: { bytesDone: number; bytesTotal: number }) => void,
): Promise<Backend> {
  const model = onnxModel(manifest, { unpacked: fitsUnpacked(manifest) });
  const names = new Set(manifest.tensors.flatMap(({ blocks }) => blocks.map(({ file }) => file)));
  const files = manifest.files.filter(({ name }) => names.has(name));
  const bytesTotal = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let bytesDone = 0;
  onProgress({ bytesDone, bytesTotal });
  const externalData: { path: string; data: Uint8Array }[] = [];
  for (const { name, bytes } of files) {
    externalData.push({ path: name, data: await read(name) });
    bytesDone += bytes;
    onProgress({ bytesDone, bytesTotal });
  }
  const session = await named(
    runtime.createSession(model, {
      executionProviders: ['wasm'],
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
      externalData,
    }),
  );
  return new OnnxBackend(runtime, manifest, session);
}

/** The CPU, through ONNX Runtime. */
class OnnxBackend implements Backend {
  readonly name = 'onnx';
  readonly variant = 'f32';
  readonly adapterName: string;
  readonly rows: CacheAccess;
  readonly #tensor: typeof Ort.Tensor;
  readonly #manifest: Manifest;
  readonly #session: Ort.InferenceSession;
  readonly #cache: OnnxCache;
  /** f32 [linears, E - 1] of a merged package; empty where the graph has no such input. */
  #gates: Readonly<Record<string, Ort.Tensor>> = {};
  #busy = false;

  constructor(runtime: OnnxRuntime, manifest: Manifest, session: Ort.InferenceSession) {
    this.adapterName = `CPU, ${runtime.name}`;
    this.#tensor = runtime.Tensor;
    this.#manifest = manifest;
    this.#session = session;
    const cache = new OnnxCache(runtime.Tensor, manifest.config);
    this.#cache = cache;
    this.rows = {
      identity: `onnx ${runtime.name}, passes of ${CHUNK}`,
      bytes: (tokens) => cache.bytes(tokens),
      read: (tokens) =>
        new Promise((resolve) => {
          resolve(cache.read(tokens));
        }),
      write: (rows, tokens) => {
        this.#checkIdle();
        cache.write(rows, tokens);
      },
    };
    this.setTask(manifest.tasks[0]?.id ?? '');
  }

  get config(): Backend['config'] {
    return this.#manifest.config;
  }

  get position(): number {
    return this.#cache.length;
  }

  prefill(
    tokens: readonly number[],
    { signal, onProgress }: PrefillOptions = {},
  ): Promise<Float32Array> {
    return this.#alone(tokens, async () => {
      let logits = new Float32Array();
      for (let done = 0; done < tokens.length;) {
        await turn();
        if (signal?.aborted) throw new Failure('Cancelled', `stopped after ${done} tokens`);
        const chunk = tokens.slice(done, done + CHUNK);
        logits = await this.#pass(chunk);
        done += chunk.length;
        onProgress?.(done, tokens.length);
      }
      return logits;
    });
  }

  decode(token: number): Promise<Float32Array> {
    return this.#alone([token], async () => {
      await turn();
      return this.#pass([token]);
    });
  }

  truncate(position: number): void {
    this.#checkIdle();
    this.#cache.truncate(position);
  }

  setTask(task: string): number {
    const { tasks, adapter } = this.#manifest;
    if (!tasks.some(({ id }) => id === task)) {
      throw new Failure('UnknownTask', `this package has no task ${task}`);
    }
    this.#checkIdle();
    const start = performance.now();
    if (adapter?.mode === 'merged') {
      const rows = adapter.gates[task] ?? [];
      const gates = Float32Array.from(rows.flat());
      this.#gates = {
        gates: new this.#tensor('float32', gates, [rows.length, adapter.experts - 1]),
      };
    }
    this.#cache.truncate(0);
    return performance.now() - start;
  }

  /** The graph of a routed package holds its router: there is no way around it. */
  setRouted(on: boolean): void {
    const { adapter } = this.#manifest;
    if (on !== (adapter?.mode === 'routed')) {
      if (on) throw new Failure('NotRouted', 'this package carries no router');
      throw new Failure('Usage', 'on the CPU the router of a routed package is always asked');
    }
    this.#checkIdle();
    this.#cache.truncate(0);
  }

  /** A graph gives the last token's logits only, so the tokens go one by one. */
  async forwardAll(tokens: readonly number[]): Promise<{ readonly logits: Float32Array }> {
    const { vocab } = this.config;
    const logits = new Float32Array(tokens.length * vocab);
    this.truncate(0);
    for (const [t, token] of tokens.entries()) logits.set(await this.decode(token), t * vocab);
    this.truncate(0);
    return { logits };
  }

  dispose(): void {
    void this.#session.release();
  }

  /** Tokens [T] after those in the cache; the last one's logits [V]. */
  async #pass(tokens: readonly number[]): Promise<Float32Array<ArrayBuffer>> {
    const total = this.position + tokens.length;
    const ids = BigInt64Array.from(tokens, BigInt);
    const outputs = await named(
      this.#session.run({
        ...this.#cache.inputs,
        ...this.#gates,
        input_ids: new this.#tensor('int64', ids, [1, tokens.length]),
        // Only its length counts.
        attention_mask: new this.#tensor('int64', new BigInt64Array(total), [1, total]),
      }),
    );
    const logits = outputs['logits']?.data;
    if (!(logits instanceof Float32Array)) throw new Error('ONNX Runtime gave no f32 logits');
    this.#cache.take(outputs, total);
    return new Float32Array(logits);
  }

  async #alone<T>(tokens: readonly number[], work: () => Promise<T>): Promise<T> {
    this.#checkIdle();
    const { vocab, capacity } = this.config;
    if (tokens.length === 0) throw new RangeError('no tokens');
    const bad = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocab);
    if (bad !== undefined) throw new RangeError(`token ${bad} is not in the vocabulary`);
    const total = this.position + tokens.length;
    if (total > capacity) throw new Failure('PromptTooLong', `${total} tokens of ${capacity}`);
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#busy = false;
    }
  }

  #checkIdle(): void {
    if (this.#busy) throw new Failure('Busy', 'the model is computing');
  }
}

/** What WebAssembly says when there is no more memory to be had. */
const outOfMemory =
  /bad_alloc|out of memory|memory access out of bounds|allocation failed|Aborted\(|failed to allocate/i;

/** The same work; memory that has run out has a name. */
async function named<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    if (!outOfMemory.test(said)) throw cause;
    throw new Failure('CpuLimit', `ONNX Runtime ran out of memory: ${said}`, { cause });
  }
}

/**
 * A turn of the event loop, so that a stop is heard: WebAssembly computes without one. A timer
 * would wait 4 ms.
 */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
