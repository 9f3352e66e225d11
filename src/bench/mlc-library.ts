import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import * as v from 'valibot';
import { sha256 } from '../format/hash.ts';
import { readLibrary } from '../peer/library.ts';

/**
 * A model library that MLC-LLM compiled for WebGPU, and what it says of its model. Nothing of it
 * runs here.
 */

const whole = v.pipe(v.number(), v.safeInteger());
const count = v.pipe(whole, v.minValue(1), v.maxValue(2 ** 31));
const text = v.pipe(v.string(), v.minLength(1), v.maxLength(500));
/** Of a size that is known only when weights are loaded there is a name: `vocab_size`. */
const param = v.looseObject({
  name: text,
  shape: v.pipe(v.array(v.union([count, text])), v.minLength(1), v.maxLength(8)),
  dtype: text,
});

/** What `_metadata` returns (_compile in MLC-LLM's interface/compile.py), as far as it is used. */
const metadata = v.looseObject({
  model_type: text,
  quantization: text,
  context_window_size: v.optional(whole, -1),
  sliding_window_size: v.optional(whole, -1),
  attention_sink_size: v.optional(whole, -1),
  prefill_chunk_size: count,
  tensor_parallel_shards: v.optional(count, 1),
  pipeline_parallel_stages: v.optional(count, 1),
  kv_state_kind: v.optional(v.nullable(v.string())),
  params: v.pipe(v.array(param), v.minLength(1), v.maxLength(200_000)),
  // Since 2024 (compiler_pass/dispatch_kv_cache_creation.py); older libraries do not have it.
  kv_cache: v.optional(
    v.looseObject({
      num_hidden_layers: count,
      num_attention_heads: count,
      num_key_value_heads: count,
      head_dim: count,
    }),
  ),
});
export type MlcMetadata = v.InferOutput<typeof metadata>;

export interface MlcLibrary {
  readonly file: string; // its path
  readonly name: string;
  readonly sha256: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly needsF16: boolean;
  readonly metadata: MlcMetadata;
}

/** What of a GPU decides whether web-llm can run a library there. */
export interface AdapterFacts {
  readonly name: string;
  readonly f16: boolean;
  readonly maxBufferSize: number;
  readonly maxStorageBufferBindingSize: number;
}

const noLibrary: Readonly<Record<string, string>> = {
  'not-wasm': 'is no WebAssembly',
  'not-tvm': 'is WebAssembly, but no library of an MLC model: it lacks functions',
  'old-library': 'was compiled for web-llm 0.2.79 or older, compile it anew: it lacks functions',
};

/** @throws Error where the file is no library that web-llm 0.2.86 can load, or does not say what it is */
export async function readMlcLibrary(file: string): Promise<MlcLibrary> {
  const name = basename(file);
  const bytes = new Uint8Array(await readFile(file));
  const facts = await readLibrary(bytes);
  if ('kind' in facts) {
    throw new Error(`${name} ${noLibrary[facts.kind] ?? facts.kind} (${facts.detail})`);
  }
  const found = findMetadata(bytes, name);
  const needsF16 = facts.needsF16 || /f16/.test(found.quantization);
  return { file, name, sha256: await sha256(bytes), bytes, needsF16, metadata: found };
}

/**
 * The JSON that the library's `_metadata` returns. The function is a constant of the compiled
 * program, which lies in a data segment as it is, so that nothing has to run to read it.
 * @throws Error with the place in the file, where there is none, it is cut, or says something else
 */
export function findMetadata(bytes: Uint8Array, name: string): MlcMetadata {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: { readonly at: number; readonly json: string; readonly data: unknown }[] = [];
  let broken = -1;
  for (let at = file.indexOf('{"'); at !== -1;) {
    const end = endOfObject(file, at);
    const json = file.toString('latin1', at, Math.abs(end));
    let next = at + 1;
    if (json.includes('"quantization"') && json.includes('"params"')) {
      const data = end > 0 ? parsed(json) : undefined;
      if (data === undefined)
        broken = at; // perhaps the whole one begins behind it
      else {
        found.push({ at, json, data });
        next = end;
      }
    }
    at = file.indexOf('{"', next);
  }
  const [first] = found;
  if (first === undefined) {
    const why =
      broken === -1
        ? 'holds no text with "quantization" and "params": MLC-LLM writes it into every library ' +
          'that `mlc_llm compile --device webgpu` makes'
        : `has metadata at byte ${broken} that break off: the file is cut or damaged`;
    throw new Error(`${name} ${why}`);
  }
  const other = found.find(({ json }) => json !== first.json);
  if (other !== undefined) {
    throw new Error(`${name} has different metadata at bytes ${first.at} and ${other.at}`);
  }
  const read = v.safeParse(metadata, first.data, { abortEarly: true });
  if (read.success) return read.output;
  const [issue] = read.issues;
  const what = `${v.getDotPath(issue) ?? 'document'}: ${issue.message}`;
  throw new Error(`${name}, metadata at byte ${first.at}: ${what}`);
}

/** The value of a JSON text; undefined where it is none. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Behind the last byte of the JSON object at `start`; minus where its text breaks off. */
function endOfObject(file: Uint8Array, start: number): number {
  let depth = 0;
  let quoted = false;
  for (let at = start; at < file.length; at++) {
    const byte = file[at] ?? 0;
    if (byte < 0x20 || byte > 0x7e) return -at; // Python writes JSON in ASCII, on one line
    if (quoted) {
      if (byte === 0x5c) at++;
      else if (byte === 0x22) quoted = false;
    } else if (byte === 0x22) quoted = true;
    else if (byte === 0x7b || byte === 0x5b) depth++;
    else if (byte === 0x7d || byte === 0x5d) depth--;
    if (depth === 0) return at + 1;
  }
  return -file.length;
}

/** Bytes that web-llm asks a device for, the first that there is (its detectGPUDevice). */
const askedFor = {
  maxBufferSize: [2 ** 30, 2 ** 28],
  maxStorageBufferBindingSize: [2 ** 30, 2 ** 27],
} as const;

/**
 * What is missing on this GPU, before weights are made for nothing.
 * @param largest bytes of the largest parameter
 * @throws Error where web-llm would refuse the library, or could not hold a parameter
 */
export function checkAdapter(
  { name, needsF16, metadata: { quantization } }: MlcLibrary,
  adapter: AdapterFacts,
  largest: number,
): void {
  if (needsF16 && !adapter.f16) {
    throw new Error(
      `${name} (${quantization}) computes in halves, and ${adapter.name} lacks shader-f16: ` +
        'take a GPU that has it with --hardware, or a library compiled as q4f32_1',
    );
  }
  for (const limit of ['maxBufferSize', 'maxStorageBufferBindingSize'] as const) {
    const granted = askedFor[limit].find((size) => size <= adapter[limit]) ?? 0;
    if (granted >= largest) continue;
    throw new Error(
      `the largest parameter of ${name} has ${largest} bytes, ${adapter.name} gives web-llm ` +
        `${granted} (${limit}): take another GPU with --hardware, or a smaller model`,
    );
  }
}
