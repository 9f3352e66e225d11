import { env, InferenceSession, Tensor } from 'onnxruntime-web/wasm';
import glueUrl from 'onnxruntime-web/ort-wasm-simd-threaded.mjs?url';
import binaryUrl from 'onnxruntime-web/ort-wasm-simd-threaded.wasm?url';
import type { OnnxRuntime } from '../engine/backends/onnx.ts';
import { Failure, partOfApp } from '../failure.ts';

/** More threads than this wait for each other more than they compute. */
const MOST_THREADS = 4;

/**
 * ONNX Runtime's WebAssembly build with SIMD, from this site. Threads share memory, which a browser
 * allows in a cross-origin isolated page only; it takes one by itself unless it is told.
 *
 * Its two files are fetched here, before it looks for them itself: it cannot be started a second
 * time after it has failed to find them.
 * @throws Failure PartMissing where they do not come
 */
export async function loadOnnxRuntime(): Promise<OnnxRuntime> {
  const threads = globalThis.crossOriginIsolated
    ? Math.min(navigator.hardwareConcurrency, MOST_THREADS)
    : 1;
  const glue = new URL(glueUrl, import.meta.url).href;
  env.logLevel = 'error';
  env.wasm.numThreads = threads;
  env.wasm.wasmPaths = { mjs: glue };
  env.wasm.wasmBinary = await fetchBinary(new URL(binaryUrl, import.meta.url).href);
  await importGlue(glue);
  return {
    Tensor,
    name: `onnxruntime-web ${env.versions.web ?? ''}, ${threads === 1 ? '1 thread' : `${threads} threads`}`,
    createSession: async (model, options) => {
      const session = await InferenceSession.create(model, options);
      delete env.wasm.wasmBinary; // compiled by now
      return session;
    },
  };
}

async function fetchBinary(url: string): Promise<ArrayBuffer> {
  try {
    const response = await fetch(url);
    if (response.ok) return await response.arrayBuffer();
    throw new Error(`status ${response.status}`);
  } catch (cause) {
    throw new Failure('PartMissing', `${url} did not come: ${String(cause)}`, { cause });
  }
}

const importGlue = (url: string): Promise<unknown> =>
  partOfApp(import(/* @vite-ignore */ url) as Promise<unknown>);
