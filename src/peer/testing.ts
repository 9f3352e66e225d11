import { createHash } from 'node:crypto';
import type { PeerFolder } from './api.ts';

/** A folder of an MLC model that is right in everything but that nothing can be computed with it. */

export const tvmExports = [
  'TVMWasmAllocSpace',
  'TVMWasmFreeSpace',
  'TVMFFIFunctionCall',
  'TVMFFIFunctionGetGlobal',
  'TVMFFIObjectDecRef',
];

const text = (value: string): number[] => {
  const bytes = [...new TextEncoder().encode(value)];
  return [...leb(bytes.length), ...bytes];
};
const section = (id: number, content: readonly number[]): number[] => [
  id,
  ...leb(content.length),
  ...content,
];
function leb(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...leb(value >> 7)];
}

/** WebAssembly with these functions, each of which gives 0, and a memory; `data` lies in it. */
export function library(names: readonly string[], data = ''): Uint8Array<ArrayBuffer> {
  const functions = names.map((name) => [...text(name), 0, 0]);
  const exports = [...functions, [...text('memory'), 2, 0]];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 0, 1, 0x7f]), // one type: () -> i32
    ...section(3, [1, 0]), // one function of it
    ...section(5, [1, 0, 1]), // one page of memory
    ...section(7, [exports.length, ...exports.flat()]),
    ...section(10, [1, 4, 0, 0x41, 0, 0x0b]), // i32.const 0
    ...section(11, [1, 0, 0x41, 0, 0x0b, ...text(data)]),
  ]);
}

export const chatConfig = {
  model_type: 'llama',
  vocab_size: 1000,
  context_window_size: 512,
  sliding_window_size: -1,
  prefill_chunk_size: 128,
  attention_sink_size: -1,
  tokenizer_files: ['tokenizer.json', 'tokenizer_config.json'],
  temperature: 0.7,
  top_p: 0.95,
  conv_template: {
    name: 'plain',
    system_template: '{system_message}',
    system_message: '',
    roles: { user: 'USER', assistant: 'ASSISTANT' },
    seps: [' '],
    stop_str: [],
    stop_token_ids: [2],
  },
};

const shardBytes = [
  Uint8Array.from({ length: 64 }, (_, i) => i),
  Uint8Array.from({ length: 32 }, (_, i) => 255 - i),
] as const;
const md5 = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex');

export const tensorCache = {
  metadata: { ParamSize: 2 },
  records: [
    {
      dataPath: 'params_shard_0.bin',
      format: 'raw-shard',
      nbytes: 64,
      md5sum: md5(shardBytes[0]),
      records: [
        { name: 'a', shape: [4, 4], dtype: 'uint32', format: 'raw', nbytes: 64, byteOffset: 0 },
      ],
    },
    {
      dataPath: 'params_shard_1.bin',
      format: 'raw-shard',
      nbytes: 32,
      md5sum: md5(shardBytes[1]),
      records: [
        { name: 'b', shape: [8], dtype: 'float16', format: 'raw', nbytes: 16, byteOffset: 0 },
        {
          name: 'c',
          shape: [8],
          dtype: 'float32',
          format: 'f32-to-bf16',
          nbytes: 16,
          byteOffset: 16,
        },
      ],
    },
  ],
};

export type Files = Map<string, string | Uint8Array<ArrayBuffer>>;

/** The files of a good folder, to be made worse. */
export function goodFiles(): Files {
  return new Map<string, string | Uint8Array<ArrayBuffer>>([
    ['mlc-chat-config.json', JSON.stringify(chatConfig)],
    ['tensor-cache.json', JSON.stringify(tensorCache)],
    ['tokenizer.json', '{}'],
    ['params_shard_0.bin', shardBytes[0]],
    ['params_shard_1.bin', shardBytes[1]],
    ['model-webgpu.wasm', library(tvmExports)],
    ['README.md', 'not looked at'],
  ]);
}

export function folderOf(files: Files, name = 'a model'): PeerFolder {
  return {
    name,
    files: [...files].map(([path, content]) => ({
      name: path,
      file: new File([content], path),
    })),
  };
}
