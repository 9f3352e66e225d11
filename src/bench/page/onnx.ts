import type * as Ort from 'onnxruntime-web';
import type { Manifest } from '../../format/manifest.ts';
import {
  MATMUL_PAIRS,
  matmulInput,
  onnxFiles,
  type BenchEngine,
  type EngineName,
  type LoadOptions,
  type Measured,
} from '../engine.ts';
import { createCache, type Cache } from './onnx-cache.ts';
import { fetchBytes, withoutAdapter } from './package.ts';

/** ONNX Runtime Web on the package's own weights, with the model that `convert/onnx` writes. */
export async function loadOnnx(
  manifest: Manifest,
  name: Exclude<EngineName, 'ours'>,
  { threads, hideSubgroups, longestPass }: LoadOptions,
): Promise<BenchEngine> {
  const webgpu = name !== 'ort-wasm';
  if (hideSubgroups) hideFeatures(['subgroups', 'subgroup-size-control']);
  const ort = await runtime(webgpu);
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = '/ort/';
  ort.env.logLevel = 'error';
  const int8 = name === 'ort-webgpu-int8';
  const open = await opener(ort, manifest, webgpu);
  const model = await open(onnxFiles.model(int8), ['logits']);
  const matmuls = await open(onnxFiles.matmuls(int8), [`down.${MATMUL_PAIRS - 1}`]);
  const cache = await createCache(ort, manifest, webgpu);
  const isolated = globalThis.crossOriginIsolated ? 'cross-origin isolated' : 'not isolated';
  const lanes = hideSubgroups ? 'without subgroups' : 'with subgroups';
  const provider = webgpu
    ? `WebGPU, accuracy level ${int8 ? 4 : 0}, ${lanes}`
    : `WASM, ${threads} threads`;
  const info = `onnxruntime-web ${ort.env.versions.web ?? ''}, ${provider}, ${isolated}`;
  return new OnnxEngine(ort, manifest, info, model, matmuls, cache, longestPass);
}

/** Lets what asks for an adapter from now on not see these. */
function hideFeatures(names: readonly string[]): void {
  const { prototype } = GPUAdapter;
  const property = Object.getOwnPropertyDescriptor(prototype, 'features');
  if (property?.get === undefined) throw new Error('GPUAdapter.features is no getter');
  const read = (adapter: GPUAdapter): unknown => property.get?.call(adapter);
  Object.defineProperty(prototype, 'features', {
    get(this: GPUAdapter) {
      const visible = new Set(read(this) as Iterable<string>);
      for (const name of names) visible.delete(name);
      return visible;
    },
  });
}

/** Each provider's own build: the plain WebAssembly one is the faster on a CPU. */
async function runtime(webgpu: boolean): Promise<typeof Ort> {
  const file = webgpu ? 'ort.webgpu.min.mjs' : 'ort.wasm.min.mjs';
  const path = new URL(`ort/${file}`, location.href).href; // served as it is, not bundled
  return (await import(/* @vite-ignore */ path)) as typeof Ort;
}

type Open = (file: string, toCpu: readonly string[]) => Promise<Ort.InferenceSession>;

async function opener(ort: typeof Ort, manifest: Manifest, webgpu: boolean): Promise<Open> {
  const shards = withoutAdapter(manifest).files.filter(({ name }) => name.endsWith('.bin'));
  const externalData = await Promise.all(
    shards.map(async ({ name }) => ({ path: name, data: await fetchBytes(name) })),
  );
  return async (file, toCpu) => {
    const model = await fetchBytes(file);
    const options: Ort.InferenceSession.SessionOptions = {
      executionProviders: [webgpu ? 'webgpu' : 'wasm'],
      externalData,
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
    };
    if (!webgpu) return ort.InferenceSession.create(model, options);
    const names = await outputNames(ort, model, options);
    const place = (name: string): 'cpu' | 'gpu-buffer' =>
      toCpu.includes(name) ? 'cpu' : 'gpu-buffer';
    const preferredOutputLocation = Object.fromEntries(names.map((name) => [name, place(name)]));
    return ort.InferenceSession.create(model, { ...options, preferredOutputLocation });
  };
}

/** A session has to be made to learn its outputs. */
async function outputNames(
  ort: typeof Ort,
  model: Uint8Array,
  options: Ort.InferenceSession.SessionOptions,
): Promise<readonly string[]> {
  const session = await ort.InferenceSession.create(model, options);
  const names = session.outputNames;
  await session.release();
  return names;
}

class OnnxEngine implements BenchEngine {
  readonly info: string;
  readonly #ort: typeof Ort;
  readonly #manifest: Manifest;
  readonly #session: Ort.InferenceSession;
  readonly #matmuls: Ort.InferenceSession;
  readonly #cache: Cache;
  readonly #longestPass: number;

  constructor(
    ort: typeof Ort,
    manifest: Manifest,
    info: string,
    session: Ort.InferenceSession,
    matmuls: Ort.InferenceSession,
    cache: Cache,
    longestPass: number,
  ) {
    this.#longestPass = longestPass;
    this.#ort = ort;
    this.#manifest = manifest;
    this.info = info;
    this.#session = session;
    this.#matmuls = matmuls;
    this.#cache = cache;
  }

  async prefill(tokens: readonly number[]): Promise<Measured> {
    const start = performance.now();
    let output = new Float32Array();
    for (let at = 0; at < tokens.length; at += this.#longestPass) {
      output = await this.#run(tokens.slice(at, at + this.#longestPass), at);
    }
    return { ms: [performance.now() - start], output: [...output] };
  }

  async decode(context: number, tokens: readonly number[]): Promise<Measured> {
    const ms: number[] = [];
    let output = new Float32Array();
    for (const [i, token] of tokens.entries()) {
      const start = performance.now();
      output = await this.#run([token], context + i);
      ms.push(performance.now() - start);
    }
    return { ms, output: [...output] };
  }

  async matmuls(tokens: number, repetitions: number): Promise<Measured> {
    const { width, mlpWidth } = this.#manifest.config;
    const input = (columns: number) =>
      new this.#ort.Tensor('float32', matmulInput(tokens, columns), [1, tokens, columns]);
    const feeds = { narrow: input(width), wide: input(mlpWidth) };
    const ms: number[] = [];
    let output = new Float32Array();
    for (let i = 0; i < repetitions; i++) {
      const start = performance.now();
      const results = await this.#matmuls.run(feeds);
      output = floats(results[`down.${MATMUL_PAIRS - 1}`]);
      ms.push(performance.now() - start);
      for (const tensor of Object.values(results)) tensor.dispose();
    }
    return { ms, output: [...output] };
  }

  /** One pass over tokens that follow `past` others in the cache; the last one's logits. */
  async #run(tokens: readonly number[], past: number): Promise<Float32Array<ArrayBuffer>> {
    const total = past + tokens.length;
    const ids = BigInt64Array.from(tokens, BigInt);
    const { feeds, fetches } = this.#cache.inputs(past);
    const results = await this.#session.run(
      {
        ...feeds,
        input_ids: new this.#ort.Tensor('int64', ids, [1, tokens.length]),
        attention_mask: new this.#ort.Tensor('int64', new BigInt64Array(total).fill(1n), [
          1,
          total,
        ]),
      },
      fetches,
    );
    this.#cache.take(results, total);
    return floats(results['logits']);
  }
}

function floats(tensor: Ort.Tensor | undefined): Float32Array<ArrayBuffer> {
  if (!(tensor?.data instanceof Float32Array)) throw new Error('no f32 output on the CPU');
  return new Float32Array(tensor.data);
}
