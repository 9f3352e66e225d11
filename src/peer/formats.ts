import * as v from 'valibot';

/**
 * The two documents of an MLC model, as far as the runtime reads them (ChatConfig in web-llm's
 * config.d.ts; fetchTensorCacheInternal of its runtime). Unknown fields stay what they are.
 */

export const CONFIG = 'mlc-chat-config.json';
/** The name since web-llm 0.2.80, and the one before; the content is the same. */
export const MANIFESTS = ['tensor-cache.json', 'ndarray-cache.json'] as const;

/** Far above what models have, far below what would hang a page. */
const LONGEST_TEXT = 100_000;
export const most = {
  configBytes: 4 * 2 ** 20,
  manifestBytes: 64 * 2 ** 20,
  libraryBytes: 512 * 2 ** 20,
  tokenizerBytes: 256 * 2 ** 20,
  shards: 10_000,
  tensors: 200_000,
  shardBytes: 4 * 2 ** 30,
  totalBytes: 64 * 2 ** 30,
} as const;

const whole = v.pipe(v.number(), v.safeInteger());
const text = v.pipe(v.string(), v.maxLength(LONGEST_TEXT));
const ids = v.array(v.pipe(whole, v.minValue(0)));

/** How a conversation becomes one text. */
const conversation = v.looseObject({
  system_template: v.pipe(text, v.includes('{system_message}')),
  system_message: text,
  roles: v.looseObject({ user: text, assistant: text }),
  seps: v.pipe(v.array(text), v.minLength(1)),
  stop_str: v.array(text),
  stop_token_ids: ids,
  role_content_sep: v.optional(text),
  role_empty_sep: v.optional(text),
  system_prefix_token_ids: v.optional(v.nullable(ids)),
});

const chatConfig = v.looseObject({
  tokenizer_files: v.pipe(v.array(v.pipe(text, v.minLength(1))), v.minLength(1)),
  vocab_size: v.pipe(whole, v.minValue(1), v.maxValue(10_000_000)),
  context_window_size: v.pipe(whole, v.minValue(-1)),
  sliding_window_size: v.optional(v.pipe(whole, v.minValue(-1)), -1),
  conv_template: conversation,
});
export type ChatConfig = v.InferOutput<typeof chatConfig>;

const count = v.pipe(whole, v.minValue(0));
const tensor = v.looseObject({
  name: v.pipe(text, v.minLength(1)),
  shape: v.pipe(v.array(count), v.maxLength(16)),
  dtype: text,
  format: v.picklist(['raw', 'f32-to-bf16']),
  nbytes: count,
  byteOffset: count,
});
const shard = v.looseObject({
  dataPath: text,
  format: v.literal('raw-shard'),
  nbytes: v.pipe(whole, v.minValue(1)),
  md5sum: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/i))),
  records: v.array(tensor),
});
const tensorCache = v.looseObject({
  records: v.pipe(v.array(shard), v.minLength(1), v.maxLength(most.shards)),
});
export type Shard = v.InferOutput<typeof shard>;
type Tensor = v.InferOutput<typeof tensor>;

/** What a document says, or where it goes wrong. */
export type Read<T> = { readonly value: T } | { readonly wrong: string };

/** Reads mlc-chat-config.json. */
export function readConfig(json: string): Read<ChatConfig> {
  const read = parse(chatConfig, json);
  if ('wrong' in read) return read;
  const { context_window_size: window, sliding_window_size: slide } = read.value;
  if ((window === -1) === (slide === -1)) {
    return { wrong: `context_window_size ${window}, sliding_window_size ${slide}` };
  }
  return read;
}

/** Reads tensor-cache.json: what it says of the shards, and that it does not contradict itself. */
export function readManifest(json: string): Read<readonly Shard[]> {
  const read = parse(tensorCache, json);
  if ('wrong' in read) return read;
  const shards = read.value.records;
  let tensors = 0;
  for (const { dataPath, nbytes, records } of shards) {
    tensors += records.length;
    for (const one of records) {
      const wrong = contradiction(one, nbytes);
      if (wrong !== null) return { wrong: `${dataPath}, ${one.name}: ${wrong}` };
    }
  }
  if (tensors > most.tensors) return { wrong: `${tensors} tensors` };
  return { value: shards };
}

/** What makes a tensor impossible in a shard of so many bytes; null where nothing does. */
function contradiction(tensor: Tensor, shardBytes: number): string | null {
  const { shape, dtype, format, nbytes, byteOffset } = tensor;
  if (byteOffset + nbytes > shardBytes) {
    return `bytes ${byteOffset} to ${byteOffset + nbytes} of ${shardBytes}`;
  }
  const bits = format === 'f32-to-bf16' ? 16 : bitsOf(dtype);
  if (bits === null) return null; // a type that only the runtime knows: it checks the shape
  const expected = Math.ceil((shape.reduce((product, one) => product * one, 1) * bits) / 8);
  return expected === nbytes ? null : `${nbytes} bytes, its shape takes ${expected}`;
}

function bitsOf(dtype: string): number | null {
  const width = /^(?:u?int|float|bfloat)(8|16|32|64)$/.exec(dtype)?.[1];
  return width === undefined ? null : Number(width);
}

function parse<S extends v.GenericSchema>(schema: S, json: string): Read<v.InferOutput<S>> {
  let data: unknown;
  try {
    data = JSON.parse(json);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return { wrong: error.message };
  }
  const read = v.safeParse(schema, data, { abortEarly: true });
  if (read.success) return { value: read.output };
  const [issue] = read.issues;
  return { wrong: `${v.getDotPath(issue) ?? 'document'}: ${issue.message}`.slice(0, 300) };
}
