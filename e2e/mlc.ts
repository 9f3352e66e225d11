import { createHash } from 'node:crypto';

/** A small folder of an MLC model: right in everything but that its library computes nothing. */

/** What the runtime looks for in a library (FFILibrary and Instance of web-llm 0.2.86). */
const tvmExports = [
  'TVMWasmAllocSpace',
  'TVMWasmFreeSpace',
  'TVMFFIFunctionCall',
  'TVMFFIFunctionGetGlobal',
  'TVMFFIObjectDecRef',
];

const named = (text: string): number[] => [text.length, ...Buffer.from(text)];
const leb = (value: number): number[] =>
  value < 128 ? [value] : [(value & 127) | 128, ...leb(value >> 7)];
const section = (id: number, content: readonly number[]): number[] => [
  id,
  ...leb(content.length),
  ...content,
];

/** WebAssembly with these functions, each of which gives 0, and a memory. */
export function library(names: readonly string[] = tvmExports): Buffer {
  const exports = [...names.map((name) => [...named(name), 0, 0]), [...named('memory'), 2, 0]];
  return Buffer.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 0, 1, 0x7f]), // one type: () -> i32
    ...section(3, [1, 0]),
    ...section(5, [1, 0, 1]),
    ...section(7, [exports.length, ...exports.flat()]),
    ...section(10, [1, 4, 0, 0x41, 0, 0x0b]), // i32.const 0
  ]);
}

const config = {
  vocab_size: 1000,
  context_window_size: 512,
  sliding_window_size: -1,
  attention_sink_size: -1,
  tokenizer_files: ['tokenizer.json'],
  conv_template: {
    system_template: '{system_message}',
    system_message: '',
    roles: { user: 'USER', assistant: 'ASSISTANT' },
    seps: [' '],
    stop_str: [],
    stop_token_ids: [2],
  },
};

const shards = [0, 1].map((n) => Buffer.from(Array.from({ length: 64 }, (_, i) => i * (n + 1))));

const manifest = {
  records: shards.map((bytes, n) => ({
    dataPath: `params_shard_${n}.bin`,
    format: 'raw-shard',
    nbytes: bytes.length,
    md5sum: createHash('md5').update(bytes).digest('hex'),
    records: [
      { name: `w${n}`, shape: [16], dtype: 'uint32', format: 'raw', nbytes: 64, byteOffset: 0 },
    ],
  })),
};

/** The files of a good folder, to be made worse. */
export function mlcFolder(): Map<string, Buffer> {
  const empty = { version: '1.0', model: { type: 'BPE', vocab: {}, merges: [] } };
  return new Map([
    ['mlc-chat-config.json', Buffer.from(JSON.stringify(config))],
    ['tensor-cache.json', Buffer.from(JSON.stringify(manifest))],
    ['tokenizer.json', Buffer.from(JSON.stringify(empty))],
    ...shards.map((bytes, n) => [`params_shard_${n}.bin`, bytes] as const),
    ['model-webgpu.wasm', library()],
  ]);
}

/** Files as a picker of the browser gives them. */
export const picked = (files: ReadonlyMap<string, Buffer>) =>
  [...files].map(([name, buffer]) => ({ name, mimeType: 'application/octet-stream', buffer }));
