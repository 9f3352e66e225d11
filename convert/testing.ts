import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { floatToHalf } from '../src/format/dtype.ts';
import { writeSafetensors, type SafetensorsTensor } from '../src/format/safetensors.ts';

/** A tiny random checkpoint and its adapters, as training would write them; for tests. */

export const tiny = { vocab: 288, width: 64, mlpWidth: 96, layers: 2, heads: 4, capacity: 64 };
export const EXPERTS = 4;
export const RANK = 2;
export const TASKS = ['medkqa', 'evidiag'] as const;
const LINEARS = ['gate_proj', 'up_proj', 'down_proj'] as const;

export type Tensors = Record<string, SafetensorsTensor>;

/** Numbers in [-1, 1) that are the same in every run (xorshift32). */
export function randomNumbers(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b9) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  };
}

export function f32(shape: readonly number[], value: (i: number) => number): SafetensorsTensor {
  const count = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({ length: count }, (_, i) => value(i));
  return { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) };
}

export function values(tensor: SafetensorsTensor | undefined): Float32Array {
  if (tensor?.dtype !== 'F32') throw new Error('no F32 tensor');
  return new Float32Array(tensor.bytes.slice().buffer);
}

/** The same numbers in half the bytes. */
export function narrowed(tensors: Tensors, dtype: 'F16' | 'BF16'): Tensors {
  const narrow = (tensor: SafetensorsTensor): SafetensorsTensor => {
    const words = new Uint32Array(tensor.bytes.slice().buffer);
    const halves =
      dtype === 'F16'
        ? Uint16Array.from(values(tensor), floatToHalf)
        : Uint16Array.from(words, (word) => word >>> 16);
    return { dtype, shape: tensor.shape, bytes: new Uint8Array(halves.buffer) };
  };
  return Object.fromEntries(Object.entries(tensors).map(([name, one]) => [name, narrow(one)]));
}

/** Weights of a size that lets every part of the model matter. */
export function modelTensors(layers = tiny.layers): Tensors {
  const random = randomNumbers(1);
  const { vocab, width, mlpWidth } = tiny;
  const matrix = (rows: number, columns: number, scale = 2) =>
    f32([rows, columns], () => (random() * scale) / Math.sqrt(columns));
  const norm = () => f32([width], () => 1 + 0.2 * random());
  const tensors: Tensors = { 'model.embed_tokens.weight': matrix(vocab, width, 8) };
  for (let i = 0; i < layers; i++) {
    const prefix = `model.layers.${i}`;
    tensors[`${prefix}.self_attn.W_pack.weight`] = matrix(3 * width, width);
    tensors[`${prefix}.self_attn.o_proj.weight`] = matrix(width, width);
    tensors[`${prefix}.mlp.gate_proj.weight`] = matrix(mlpWidth, width);
    tensors[`${prefix}.mlp.up_proj.weight`] = matrix(mlpWidth, width);
    tensors[`${prefix}.mlp.down_proj.weight`] = matrix(width, mlpWidth);
    tensors[`${prefix}.input_layernorm.weight`] = norm();
    tensors[`${prefix}.post_attention_layernorm.weight`] = norm();
  }
  tensors['model.norm.weight'] = norm();
  tensors['lm_head.weight'] = matrix(vocab, width, 3);
  return tensors;
}

/** Experts for every FFN linear; with `routers` also what trained the gates. */
export function adapterTensors(seed: number, routers: boolean): Tensors {
  const random = randomNumbers(seed);
  const tensors: Tensors = {};
  for (let i = 0; i < tiny.layers; i++) {
    for (const linear of LINEARS) {
      const down = linear === 'down_proj';
      const inputs = down ? tiny.mlpWidth : tiny.width;
      const outputs = down ? tiny.width : tiny.mlpWidth;
      const prefix = `base_model.model.model.layers.${i}.mlp.${linear}`;
      tensors[`${prefix}.lora_moe_A`] = f32([EXPERTS, inputs, RANK], () => 0.2 * random());
      tensors[`${prefix}.lora_moe_B`] = f32([EXPERTS, RANK, outputs], () => 0.2 * random());
      if (!routers) continue;
      tensors[`${prefix}.lora_route.weight`] = f32([EXPERTS - 1, inputs], random);
      tensors[`${prefix}.w_noise`] = f32([inputs, EXPERTS - 1], random);
    }
  }
  return tensors;
}

export const config = {
  architectures: ['BaichuanForCausalLM'],
  model_type: 'baichuan',
  vocab_size: tiny.vocab,
  hidden_size: tiny.width,
  intermediate_size: tiny.mlpWidth,
  num_hidden_layers: tiny.layers,
  num_attention_heads: tiny.heads,
  max_position_embeddings: tiny.capacity,
  model_max_length: tiny.capacity,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  hidden_act: 'silu',
  tie_word_embeddings: false,
  torch_dtype: 'float32',
};

export const card = {
  id: 'tiny-random',
  name: { zh: '随机', en: 'Random' },
  licence: 'MIT',
  intended_use: { zh: '测试', en: 'Tests' },
  limits: { zh: '没有意义', en: 'Means nothing' },
  tasks: TASKS.map((id) => ({ id, title: { zh: id, en: id }, system: '' })),
  template: {
    system: { prefix: '', suffix: '\n' },
    user: { prefix: 'Human: ', suffix: '\nAssistant: ' },
    assistant: { prefix: '', suffix: '' },
    separator: '\n',
    endId: 2,
    stopIds: [2],
  },
  stages: [{ name: 'cpt', steps: 10, tokens: 1000, seconds: 1.5, loss: null }],
  data: [{ source: 'random', licence: 'MIT', records: 0 }],
  metrics: { 'valid.loss': 5.5 },
  known_answer_prompts: { medkqa: '宝宝发烧怎么办', evidiag: '咳嗽三天' },
};

/** Bytes and a few characters and merges: every text has tokens. */
export function tokenizerJson(): unknown {
  const special = ['<unk>', '<s>', '</s>'];
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  const pieces = [...special, ...bytes, ...'▁Humanistr宝发烧', '宝宝', '发烧', 'ma', 'man'];
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    pre_tokenizer: {
      type: 'Split',
      pattern: { Regex: '▁?[A-Za-z]+|[0-9]|[一-鿿]+|[^A-Za-z0-9一-鿿]' },
      behavior: 'Isolated',
      invert: false,
    },
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: true,
      ignore_merges: false,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges: [['宝', '宝'], ['发', '烧'], ['m', 'a'], ['ma', 'n']], // prettier-ignore
    },
  };
}

/** Gates that differ by task, layer and linear, one row per linear. */
export function taskGates(): Record<string, Record<string, number[]>> {
  const random = randomNumbers(77);
  const row = () => {
    const weights = Array.from({ length: EXPERTS - 1 }, () => Math.exp(2 * random()));
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((weight) => weight / sum);
  };
  const names = Array.from({ length: tiny.layers }, (_, i) =>
    LINEARS.map((linear) => `layers.${i}.mlp.${linear}`),
  ).flat();
  return Object.fromEntries(
    TASKS.map((task) => [task, Object.fromEntries(names.map((name) => [name, row()]))]),
  );
}

export function adapterConfig(mode?: 'merged' | 'routed'): Record<string, unknown> {
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    r: RANK,
    lora_alpha: 4,
    lora_nums: EXPERTS,
    lora_dropout: 0,
    target_modules: [...LINEARS],
    ...(mode === undefined ? {} : { mode }),
  };
}

/** All entries but one. */
export function without<T>(record: Readonly<Record<string, T>>, name: string): Record<string, T> {
  return Object.fromEntries(Object.entries(record).filter(([key]) => key !== name));
}

const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

/** A new folder with the given files, for one test file; objects are written as JSON. */
export async function folderOf(files: Readonly<Record<string, unknown>>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'convert-'));
  folders.push(folder);
  for (const [name, content] of Object.entries(files)) {
    const bytes = content instanceof Uint8Array ? content : JSON.stringify(content);
    await writeFile(join(folder, name), bytes);
  }
  return folder;
}

export function checkpointFiles(tensors: Tensors = modelTensors()): Record<string, unknown> {
  return {
    'config.json': config,
    'pediatricsgpt.json': card,
    'generation_config.json': {
      temperature: 0.7,
      top_k: 40,
      top_p: 0.9,
      repetition_penalty: 1.1,
      max_new_tokens: 64,
    },
    'tokenizer.json': tokenizerJson(),
    'model.safetensors': writeSafetensors(tensors),
  };
}

export function mergedAdapterFiles(seed = 2): Record<string, unknown> {
  return {
    'adapter_config.json': adapterConfig('merged'),
    'adapter_model.safetensors': writeSafetensors(adapterTensors(seed, true)),
    'task_gates.json': taskGates(),
  };
}

export function routedAdapterFiles(seed = 2): Record<string, unknown> {
  return {
    'adapter_config.json': adapterConfig('routed'),
    'adapter_model.safetensors': writeSafetensors(adapterTensors(seed, true)),
  };
}
