import { createHash } from 'node:crypto';
import { copyFile, mkdir, open, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { floatToHalf } from '../format/dtype.ts';
import { CONFIG, MANIFESTS } from '../peer/formats.ts';
import type { WebLlmOptions } from './mlc-engine.ts';
import type { MlcLibrary } from './mlc-library.ts';
import type { MlcModel, MlcTensor } from './mlc-shape.ts';
import { halfNear, randomWords } from './random-model.ts';

/** The folder of an MLC model with random weights, beside a library that somebody compiled. */

export interface MlcFolderOptions {
  readonly library: MlcLibrary;
  readonly model: MlcModel;
  readonly seed: number;
  /** Tokens that keys and values are kept for. */
  readonly capacity: number;
  /** A tokenizer.json. Its tokens need not be as many as the model's: what has no text has none. */
  readonly tokenizer: string;
  /** Tensors share a file up to this size, a larger one has its own. */
  readonly shardBytes?: number;
}

/** Below the root: web-llm adds this to every address of a model. */
const FOLDER = 'resolve/main/';
const LIBRARY = 'model-webgpu.wasm';
const [MANIFEST] = MANIFESTS;
/** As MLC-LLM cuts its own. */
const SHARD_BYTES = 32 << 20;
const CHUNK_BYTES = 1 << 20;

/**
 * Writes the folder, or of one that is there everything but its weights.
 * @param beforeWeights called with its root once all the rest is there, if weights have to be made
 * @returns its root
 * @throws Error where the disk is too full for them
 */
export async function writeMlcFolder(
  cache: string,
  options: MlcFolderOptions,
  beforeWeights: (root: string) => Promise<void> = () => Promise.resolve(),
): Promise<string> {
  const { library, model, seed, tokenizer, shardBytes = SHARD_BYTES } = options;
  const name = `mlc-${library.sha256.slice(0, 12)}-v${model.shape.vocab}-s${seed}`;
  const root = join(cache, name);
  const files = join(root, FOLDER);
  const isWhole = await isThere(join(files, MANIFEST));
  if (!isWhole) await rm(root, { recursive: true, force: true });
  await mkdir(files, { recursive: true });
  await copyFile(tokenizer, join(files, 'tokenizer.json'));
  await writeFile(join(files, LIBRARY), library.bytes);
  await writeFile(join(files, CONFIG), JSON.stringify(chatConfig(options)));
  if (isWhole) return root;
  await beforeWeights(root);
  await writeWeights(files, model, seed, shardBytes);
  return root;
}

/** The addresses of a folder whose root is served at `root`, which ends with a slash. */
export function addressesIn(root: string): Omit<WebLlmOptions, 'vocab'> {
  return { model: root, library: root + FOLDER + LIBRARY, manifest: root + FOLDER + MANIFEST };
}

/** What web-llm 0.2.86 reads of it (ChatConfig in its lib/config.d.ts). */
function chatConfig({ library: { metadata }, model, capacity }: MlcFolderOptions) {
  const { sliding_window_size: slide, attention_sink_size: sink } = metadata;
  return {
    model_type: metadata.model_type,
    quantization: metadata.quantization,
    vocab_size: model.shape.vocab,
    context_window_size: slide === -1 ? capacity : -1,
    sliding_window_size: slide,
    attention_sink_size: slide === -1 ? -1 : Math.max(0, sink),
    prefill_chunk_size: metadata.prefill_chunk_size,
    tokenizer_files: ['tokenizer.json'],
    tokenizer_info: { token_postproc_method: 'raw', prepend_space_in_encode: false },
    temperature: 1,
    top_p: 1,
    repetition_penalty: 1,
    frequency_penalty: 0,
    presence_penalty: 0,
    conv_template: {
      name: 'plain',
      system_template: '{system_message}',
      system_message: '',
      roles: { user: '', assistant: '' },
      seps: ['\n'],
      stop_str: [],
      stop_token_ids: [],
    },
  };
}

/** Shards, then the manifest: a folder that has it is whole. */
async function writeWeights(
  folder: string,
  model: MlcModel,
  seed: number,
  shardBytes: number,
): Promise<void> {
  const total = model.tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < total) {
    throw new Error(`${folder}: the weights take ${total} bytes, the disk has ${bavail * bsize}`);
  }
  const records: object[] = [];
  let number = 0;
  for (const [i, tensors] of shardsOf(model.tensors, shardBytes).entries()) {
    const dataPath = `params_shard_${i}.bin`;
    const file = await open(join(folder, dataPath), 'w');
    const sum = createHash('md5');
    let nbytes = 0;
    const list: object[] = [];
    try {
      for (const tensor of tensors) {
        const { name, shape, dtype, bytes } = tensor;
        list.push({ name, shape, dtype, format: 'raw', nbytes: bytes, byteOffset: nbytes });
        for (const chunk of chunksOf(tensor, model, seed * 7919 + number++)) {
          sum.update(chunk);
          await file.writeFile(chunk); // goes on where the last one ended
        }
        nbytes += bytes;
      }
    } finally {
      await file.close();
    }
    const md5sum = sum.digest('hex');
    records.push({ dataPath, format: 'raw-shard', nbytes, md5sum, records: list });
  }
  const metadata = { ParamSize: number, ParamBytes: total };
  await writeFile(join(folder, 'manifest.part'), JSON.stringify({ metadata, records }));
  await rename(join(folder, 'manifest.part'), join(folder, MANIFEST));
}

function shardsOf(tensors: readonly MlcTensor[], shardBytes: number): MlcTensor[][] {
  const shards: MlcTensor[][] = [];
  let left = 0;
  for (const tensor of tensors) {
    if (shards.length === 0 || tensor.bytes > left) {
      shards.push([]);
      left = shardBytes;
    }
    shards.at(-1)?.push(tensor);
    left -= tensor.bytes;
  }
  return shards;
}

/**
 * A tensor's bytes, piece by piece. Weights are about as large as keeps activations near 1: norms
 * are 1, a scale has either sign, so that the middle of a group, which is not 0, is as often below.
 */
function* chunksOf(tensor: MlcTensor, model: MlcModel, seed: number): Generator<Uint8Array> {
  const next = randomWords(seed);
  const fill = filler(tensor, model);
  for (let left = tensor.bytes; left > 0; left -= CHUNK_BYTES) {
    const chunk = new Uint8Array(Math.min(left, CHUNK_BYTES));
    fill(chunk, next);
    yield chunk;
  }
}

function filler({ name, shape, dtype }: MlcTensor, { shape: { width, mlpWidth }, tied }: MlcModel) {
  if (dtype === 'uint32') {
    return ({ buffer }: Uint8Array<ArrayBuffer>, next: () => number): void => {
      const words = new Uint32Array(buffer);
      for (let i = 0; i < words.length; i++) words[i] = next();
    };
  }
  const columns = name.includes('.down_proj.') ? mlpWidth : width;
  const logits = name.startsWith('lm_head.') || (tied && name.includes('embed_tokens.'));
  const spread = logits ? 3 / Math.sqrt(columns) : name.includes('embed_tokens.') ? 1 : 1 / Math.sqrt(columns); // prettier-ignore
  // Uniform numbers of 4 bits have a standard deviation of 4.61.
  const size = name.endsWith('.q_scale') ? spread / 4.61 : spread;
  const isNorm = shape.length === 1 && name.includes('norm');
  const bits = floatToHalf(isNorm ? 1 : size);
  return ({ buffer }: Uint8Array<ArrayBuffer>, next: () => number): void => {
    if (dtype === 'float16') {
      const halves = new Uint16Array(buffer);
      for (let i = 0; i < halves.length; i++) halves[i] = isNorm ? bits : halfNear(bits, next());
      return;
    }
    const floats = new Float32Array(buffer);
    for (let i = 0; i < floats.length; i++) {
      floats[i] = isNorm ? 1 : next() < 0 ? -size : size;
    }
  };
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
      throw error;
    },
  );
}
