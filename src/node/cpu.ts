import { availableParallelism } from 'node:os';
import type { OnnxRuntime } from '../engine/backends/onnx.ts';

/** More threads than this wait for each other more than they compute. */
const MOST_THREADS = 4;

/** ONNX Runtime's WebAssembly in Node: slower than its native build, but the one that browsers run. */
export async function cpuRuntime(): Promise<OnnxRuntime> {
  // Large, and of no use where there is a GPU.
  const { env, InferenceSession, Tensor } = await import('onnxruntime-web');
  const threads = Math.min(availableParallelism(), MOST_THREADS);
  env.logLevel = 'error';
  env.wasm.numThreads = threads;
  return {
    Tensor,
    name: `onnxruntime-web ${env.versions.web ?? ''}, ${threads === 1 ? '1 thread' : `${threads} threads`}`,
    createSession: (model, options) => InferenceSession.create(model, options),
  };
}
