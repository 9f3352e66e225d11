import type { BenchEngine, LoadOptions, OurEngine } from '../engine.ts';
import { loadOnnx } from './onnx.ts';
import { loadOurs } from './ours.ts';
import { fetchManifest } from './package.ts';
import { webLlm } from './web-llm.ts';

/** One engine on a page of its own; the runner calls what hangs on `globalThis.bench`. */

let ours: OurEngine | null = null;
let engine: BenchEngine | null = null;

function loaded<T>(one: T | null): T {
  if (one === null) throw new Error('this page has loaded no such engine');
  return one;
}

globalThis.bench = {
  async load(options: LoadOptions) {
    const { engine: name } = options;
    const manifest = await fetchManifest();
    if (name === 'ours') engine = ours = await loadOurs(manifest);
    else engine = await loadOnnx(manifest, name, options);
    return engine.info;
  },
  prefill: (tokens) => loaded(engine).prefill(tokens),
  decode: (context, tokens) => loaded(engine).decode(context, tokens),
  matmuls: (tokens, repetitions) => loaded(engine).matmuls(tokens, repetitions),
  adapter: (context, tokens) => loaded(ours).adapter(context, tokens),
  prepare: (short, long) => loaded(ours).prepare(short, long),
};

globalThis.webLlm = webLlm;
