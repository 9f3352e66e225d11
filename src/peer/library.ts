import type { PeerProblemKind } from './api.ts';

/** A model's library: WebAssembly that TVM made, with the model's shaders inside. */

/** What the runtime of web-llm 0.2.86 calls (FFILibrary and RuntimeContext in its lib/index.js). */
const needed = [
  'TVMWasmAllocSpace',
  'TVMWasmFreeSpace',
  'TVMFFIFunctionCall',
  'TVMFFIFunctionGetGlobal',
  'TVMFFIObjectDecRef',
  'memory',
];
/** The entry point of runtimes before TVM had its foreign function interface (web-llm up to 0.2.79). */
const OLD = 'TVMFuncGetGlobal';
/** How TVM's generator begins a shader that computes in halves. */
const F16 = 'enable f16;';

export interface LibraryFacts {
  readonly needsF16: boolean;
}

/** What a library is, or why it cannot be one, with the names that it lacks. */
export async function readLibrary(
  bytes: Uint8Array<ArrayBuffer>,
): Promise<LibraryFacts | { readonly kind: PeerProblemKind; readonly detail: string }> {
  let module: WebAssembly.Module;
  try {
    module = await WebAssembly.compile(bytes);
  } catch (error) {
    if (!(error instanceof WebAssembly.CompileError)) throw error;
    return { kind: 'not-wasm', detail: error.message };
  }
  const names = new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
  const missing = needed.filter((name) => !names.has(name));
  if (missing.length > 0) {
    return { kind: names.has(OLD) ? 'old-library' : 'not-tvm', detail: missing.join(', ') };
  }
  return { needsF16: new TextDecoder('latin1').decode(bytes).includes(F16) };
}
