import { readFileSync } from 'node:fs';
import { failureName } from '../src/failure.ts';
import { parseManifest } from '../src/format/layout.ts';
import { writeSafetensors } from '../src/format/safetensors.ts';
import { exampleManifest } from '../src/format/testing.ts';
import { Tokenizer } from '../src/text/tokenizer.ts';
import { parseConfig } from './config.ts';
import { ggufConfig, ggufTensors } from './formats/gguf-model.ts';
import { ggufTokenizer } from './formats/gguf-tokenizer.ts';
import { openGguf } from './formats/gguf.ts';
import { openSafetensors } from './formats/safetensors.ts';
import type { ByteSource, StoredTensor } from './formats/stored.ts';
import { ggufOf } from './formats/testing.ts';
import { sentencePieceTokenizer } from './formats/sentencepiece.ts';
import { openTorch } from './formats/torch.ts';
import { parseIndex } from './weights.ts';

/**
 * Files that are nearly right, for tests: whatever is in them, a reader either reads them or says
 * in a named failure what is wrong. It never asks for bytes that are not there, nor for long.
 */

type Random = () => number;

export interface Reader {
  /** Reads all that there is to read. @throws Failure, or a bug */
  readonly read: (bytes: Uint8Array) => Promise<void>;
  /** A file that is nearly right. */
  readonly make: (random: Random) => Uint8Array;
}

/** Numbers in [0, 1) that are the same in every run (mulberry32). */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Runs a reader. @returns true where it read the file. @throws what is no named failure */
export async function attempt(reader: Reader, bytes: Uint8Array): Promise<boolean> {
  try {
    await reader.read(bytes);
    return true;
  } catch (error) {
    if (failureName(error) === 'Bug') throw error;
    return false;
  }
}

/** A file in memory that must not be read outside, for which memory would be set aside first. */
function strictSource(bytes: Uint8Array): ByteSource {
  const read = (offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> => {
    if (!(offset >= 0 && length >= 0 && offset + length <= bytes.length)) {
      throw new RangeError(`bytes ${offset} to ${offset + length} of ${bytes.length}`);
    }
    return Promise.resolve(new Uint8Array(bytes.subarray(offset, offset + length)));
  };
  return { size: bytes.length, read };
}

/** Lets named failures pass. */
function named(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    if (failureName(error) === 'Bug') throw error;
  }
}

async function readAll(tensors: ReadonlyMap<string, StoredTensor>): Promise<void> {
  for (const { shape, rowBytes } of tensors.values()) {
    const rows = shape.length === 0 ? 1 : (shape[0] ?? 0);
    await rowBytes(0, Math.min(rows, 2));
    if (rows > 2) await rowBytes(rows - 1, rows);
  }
}

const fixture = (name: string) =>
  new Uint8Array(readFileSync(new URL(`fixtures/${name}`, import.meta.url)));
const jsonBytes = (json: unknown) => new TextEncoder().encode(JSON.stringify(json));
const parse = (bytes: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(bytes));

const safetensors = writeSafetensors({
  a: { dtype: 'F32', shape: [3, 4], bytes: new Uint8Array(48) },
  b: { dtype: 'BF16', shape: [5], bytes: new Uint8Array(10) },
  c: { dtype: 'U8', shape: [2, 2, 2], bytes: new Uint8Array(8) },
});
const torch = ['views.bin', 'views-protocol4.bin', 'state-dict.bin'].map((name) =>
  fixture(`torch/${name}`),
);
const gguf = ggufOf({
  metadata: {
    'general.architecture': [8, 'llama'],
    'llama.block_count': [4, 1],
    'llama.context_length': [4, 64],
    'llama.embedding_length': [4, 32],
    'llama.feed_forward_length': [4, 32],
    'llama.attention.head_count': [4, 2],
    'llama.attention.layer_norm_rms_epsilon': [6, 1e-6],
    'tokenizer.ggml.model': [8, 'gpt2'],
    'tokenizer.ggml.pre': [8, 'qwen2'],
    'tokenizer.ggml.tokens': [9, ['a', 'b', 'ab']],
    'tokenizer.ggml.token_type': [9, [1, 1, 3]],
    'tokenizer.ggml.merges': [9, ['a b']],
  },
  tensors: {
    'token_embd.weight': { type: 8, shape: [3, 32], bytes: new Uint8Array(102) },
    'blk.0.attn_q.weight': { type: 2, shape: [32, 32], bytes: new Uint8Array(576) },
    'output_norm.weight': { type: 0, shape: [8], bytes: new Uint8Array(32) },
  },
});
const sentencePiece = fixture('sentencepiece/plain.model');
const index = { weight_map: { a: 'model-1.safetensors', b: 'model-2.bin' }, metadata: {} };
const config = {
  architectures: ['Qwen3ForCausalLM'],
  vocab_size: 288,
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-6,
  rope_parameters: { rope_theta: 10000, rope_type: 'default' },
  layer_types: ['full_attention', 'full_attention'],
  hidden_act: 'silu',
};
const manifest = [exampleManifest(), exampleManifest('routed')];

export const readers: Readonly<Record<string, Reader>> = {
  safetensors: {
    read: async (bytes) => readAll(await openSafetensors(strictSource(bytes))),
    make: (random) => {
      if (random() < 0.3) return spoilt(random, safetensors);
      const length = new DataView(safetensors.buffer).getUint32(0, true);
      const header = parse(safetensors.subarray(8, 8 + length));
      const json = jsonBytes(changed(random, header));
      const file = new Uint8Array(8 + json.length + 66);
      new DataView(file.buffer).setUint32(0, json.length, true);
      file.set(json, 8);
      return random() < 0.2 ? spoilt(random, file) : file;
    },
  },
  'PyTorch file': {
    read: async (bytes) => readAll(await openTorch(strictSource(bytes))),
    make: (random) => spoilt(random, pick(random, torch)),
  },
  GGUF: {
    read: async (bytes) => {
      const file = await openGguf(strictSource(bytes));
      await readAll(ggufTensors(file));
      // The file has neither all sizes nor all bytes: each of these may say so.
      named(() => parseConfig(ggufConfig(file), 'config'));
      named(() => Tokenizer.fromBytes(new TextEncoder().encode(ggufTokenizer(file))));
    },
    make: (random) => spoilt(random, gguf),
  },
  'SentencePiece model': {
    read: (bytes) => {
      const json = new TextEncoder().encode(sentencePieceTokenizer(bytes));
      return Promise.resolve(void Tokenizer.fromBytes(json).encode('宝宝 fever 39.5'));
    },
    make: (random) => spoilt(random, sentencePiece),
  },
  'index.json': {
    read: (bytes) => Promise.resolve(void parseIndex(parse(bytes), 'index')),
    make: (random) => jsonBytes(changed(random, index)),
  },
  'config.json': {
    read: (bytes) => Promise.resolve(void parseConfig(parse(bytes), 'config.json')),
    make: (random) => jsonBytes(changed(random, config)),
  },
  manifest: {
    read: (bytes) => Promise.resolve(void parseManifest(bytes)),
    make: (random) => {
      const bytes = jsonBytes(changed(random, pick(random, manifest)));
      return random() < 0.1 ? spoilt(random, bytes) : bytes;
    },
  },
};

function pick<T>(random: Random, list: readonly [T, ...T[]] | readonly T[]): T {
  const chosen = list[Math.floor(random() * list.length)];
  if (chosen === undefined) throw new Error('nothing to pick from');
  return chosen;
}

const WORDS = [0, 1, 2, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

/** A few bytes of a file changed, taken out, doubled or moved; numbers where they hurt. */
function spoilt(random: Random, file: Uint8Array): Uint8Array {
  let bytes = new Uint8Array(file);
  const at = (length = 1) => Math.floor(random() * Math.max(1, bytes.length - length));
  for (let rest = Math.floor(random() * 4); rest >= 0; rest--) {
    const kind = random();
    const place = at(8);
    if (kind < 0.35) bytes[place] = Math.floor(random() * 256);
    else if (kind < 0.5) bytes[place] = (bytes[place] ?? 0) ^ (1 << Math.floor(random() * 8));
    else if (kind < 0.7 && bytes.length > 8) {
      new DataView(bytes.buffer).setUint32(place, pick(random, WORDS), true);
    } else if (kind < 0.78) bytes = bytes.slice(0, at());
    else if (kind < 0.86) {
      const end = Math.min(bytes.length, place + Math.floor(random() * 64));
      bytes = Uint8Array.of(...bytes.subarray(0, place), ...bytes.subarray(end));
    } else if (kind < 0.94) {
      const piece = bytes.slice(place, place + Math.floor(random() * 64));
      bytes = Uint8Array.of(...bytes.subarray(0, place), ...piece, ...bytes.subarray(place));
    } else bytes.copyWithin(place, at(64), at(64) + 32);
  }
  return bytes;
}

const ODD: readonly unknown[] = [
  ...[null, true, 0, -1, 1, 1.5, 2 ** 31, 2 ** 53, 1e308, -0.5, 32, 1 << 24],
  ...[
    '',
    'a',
    'constructor',
    '__proto__',
    '../x',
    'shard-00000.bin',
    'F32',
    'q4',
    'x'.repeat(5000),
  ],
  ...[[], {}, [0, 0], [-1, 1], [2 ** 40, 2 ** 40], { a: 1 }, [[]]],
];

/** A copy of a JSON value with one to three of its parts replaced, taken away, doubled or renamed. */
function changed(random: Random, json: unknown): unknown {
  const copy = structuredClone(json);
  for (let rest = Math.floor(random() * 3); rest >= 0; rest--) change(random, copy);
  return copy;
}

function change(random: Random, json: unknown): void {
  let holder = json;
  for (;;) {
    if (typeof holder !== 'object' || holder === null) return;
    const keys = Object.keys(holder);
    if (keys.length === 0) return;
    const record = holder as Record<string, unknown>;
    const key = pick(random, keys);
    const value = record[key];
    if (typeof value === 'object' && value !== null && random() < 0.85) {
      holder = value;
      continue;
    }
    const kind = random();
    if (kind < 0.6) put(record, key, pick(random, ODD));
    else if (kind < 0.7) delete record[key];
    else if (kind < 0.8 && typeof value === 'number')
      record[key] = value + (random() < 0.5 ? 1 : -1);
    else if (kind < 0.9) put(record, pick(random, keys), value);
    else put(record, String(pick(random, ODD)), value);
    return;
  }
}

/** Sets a copy, also under '__proto__'. */
function put(holder: object, key: string, value: unknown): void {
  if (Array.isArray(holder) && !(Number(key) <= holder.length)) return; // no list of 2^31

  const copy: unknown = structuredClone(value);
  Object.defineProperty(holder, key, {
    value: copy,
    enumerable: true,
    configurable: true,
    writable: true,
  });
}
