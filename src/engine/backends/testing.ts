import { env, InferenceSession, Tensor } from 'onnxruntime-web';
import type { OnnxRuntime } from './onnx.ts';

/** ONNX Runtime's WebAssembly in Node, on one thread: what a page that is not isolated has. */

env.wasm.numThreads = 1;
env.logLevel = 'error';

export const testRuntime: OnnxRuntime = {
  Tensor,
  name: 'tests, 1 thread',
  createSession: (model, options) => InferenceSession.create(model, options),
};
