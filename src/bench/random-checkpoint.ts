import { copyFile, mkdir, open, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A checkpoint in the layout of Baichuan2, as large as wanted, with random weights in bf16. */

/** What a checkpoint is made of. */
export interface CheckpointShape {
  readonly name: string; // of its folder
  readonly vocab: number;
  readonly width: number;
  readonly mlpWidth: number;
  readonly layers: number;
  readonly heads: number;
}

/** Baichuan2-7B with some of its 32 layers. */
export function baichuan7b(layers: number): CheckpointShape {
  const name = `baichuan2-7b-${layers}-layers`;
  return { name, vocab: 125_696, width: 4096, mlpWidth: 11_008, layers, heads: 32 };
}

/** 40 million weights with the tokenizer of the shipped model. */
export const FORTY_MILLION: CheckpointShape = {
  name: '40-million',
  vocab: 8192,
  width: 512,
  mlpWidth: 1376,
  layers: 10,
  heads: 8,
};

/** Any will do that the converter reads: weights take the time. */
const TOKENIZER = fileURLToPath(
  new URL('../../public/models/nano/tokenizer.json', import.meta.url),
);
/** Values that are drawn; tensors repeat them from places of their own. */
const DRAWN = 1 << 23;

interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
}

export interface Checkpoint {
  readonly folder: string;
  readonly files: readonly string[];
  readonly bytes: number;
}

/**
 * Writes the checkpoint, a layer in each file, or takes the one that is there.
 * @param about tasks and template, where an app is to talk with the model
 */
export async function randomCheckpoint(
  cache: string,
  shape: CheckpointShape,
  seed: number,
  about: object = {},
): Promise<Checkpoint> {
  const folder = join(cache, `${shape.name}-seed-${seed}`);
  const groups = fileGroups(shape);
  const files = groups.map(
    (_, i) => `model-${String(i + 1).padStart(5, '0')}-of-${groups.length}.safetensors`,
  );
  if (!(await isThere(join(folder, 'model.safetensors.index.json')))) {
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    const weights = drawn(seed);
    const map: Record<string, string> = {};
    for (const [i, tensors] of groups.entries()) {
      const file = files[i] ?? '';
      await writeFileOf(join(folder, file), tensors, weights, i);
      for (const { name } of tensors) map[name] = file;
    }
    await copyFile(TOKENIZER, join(folder, 'tokenizer.json'));
    await writeFile(join(folder, 'config.json'), JSON.stringify(configOf(shape)));
    await writeFile(join(folder, 'pediatricsgpt.json'), JSON.stringify({ ...card, ...about }));
    await writeFile(join(folder, 'generation_config.json'), JSON.stringify(sampling));
    // Last: a folder that has it is whole.
    await writeFile(
      join(folder, 'model.safetensors.index.json'),
      JSON.stringify({ metadata: {}, weight_map: map }),
    );
  }
  let bytes = 0;
  for (const file of files) bytes += (await stat(join(folder, file))).size;
  return { folder, files, bytes };
}

function fileGroups({ vocab, width, mlpWidth, layers }: CheckpointShape): Tensor[][] {
  const one = (name: string, ...shape: number[]): Tensor => ({ name, shape });
  const layer = (i: number): Tensor[] => {
    const at = `model.layers.${i}`;
    return [
      one(`${at}.self_attn.W_pack.weight`, 3 * width, width),
      one(`${at}.self_attn.o_proj.weight`, width, width),
      one(`${at}.mlp.gate_proj.weight`, mlpWidth, width),
      one(`${at}.mlp.up_proj.weight`, mlpWidth, width),
      one(`${at}.mlp.down_proj.weight`, width, mlpWidth),
      one(`${at}.input_layernorm.weight`, width),
      one(`${at}.post_attention_layernorm.weight`, width),
    ];
  };
  return [
    [one('model.embed_tokens.weight', vocab, width)],
    ...Array.from({ length: layers }, (_, i) => layer(i)),
    [one('model.norm.weight', width), one('lm_head.weight', vocab, width)],
  ];
}

const configOf = ({ vocab, width, mlpWidth, layers, heads }: CheckpointShape) => ({
  architectures: ['BaichuanForCausalLM'],
  model_type: 'baichuan',
  vocab_size: vocab,
  hidden_size: width,
  intermediate_size: mlpWidth,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  model_max_length: 4096,
  rms_norm_eps: 1e-6,
  hidden_act: 'silu',
  tie_word_embeddings: false,
  torch_dtype: 'bfloat16',
});

const sampling = { temperature: 1, top_k: 1, top_p: 1, repetition_penalty: 1, max_new_tokens: 16 };
const both = { zh: '测速', en: 'Benchmark' };
const card = {
  id: 'random-weights',
  name: both,
  licence: 'MIT',
  intended_use: both,
  limits: both,
  tasks: [{ id: 'medkqa', title: both, system: '' }],
  template: {
    system: { prefix: '', suffix: '' },
    user: { prefix: '', suffix: '' },
    assistant: { prefix: '', suffix: '' },
    separator: '',
    endId: 2,
    stopIds: [2],
  },
  stages: [],
  data: [],
  metrics: {},
  known_answer_prompts: { medkqa: '发烧' },
};

/** bf16 values that fall about as weights do: sums of three even ones (xorshift32), near +-0.02. */
function drawn(seed: number): Uint8Array {
  let state = Math.imul(seed + 1, 0x9e3779b9) | 1;
  const even = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  };
  const floats = Float32Array.from({ length: DRAWN }, () => 0.02 * (even() + even() + even()));
  const words = new Uint32Array(floats.buffer);
  return new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer);
}

async function writeFileOf(
  path: string,
  tensors: readonly Tensor[],
  weights: Uint8Array,
  first: number,
): Promise<void> {
  let end = 0;
  const sizes = tensors.map(({ shape }) => 2 * shape.reduce((product, n) => product * n, 1));
  const entries = tensors.map(({ name, shape }, i) => {
    const begin = end;
    end += sizes[i] ?? 0;
    return [name, { dtype: 'BF16', shape, data_offsets: [begin, end] }] as const;
  });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const header = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  header.writeBigUInt64LE(BigInt(header.length - 8));
  json.copy(header, 8);
  const file = await open(path, 'w');
  try {
    await file.write(header);
    let place = 2 * ((first * 1_000_003) % DRAWN);
    for (let left = end; left > 0;) {
      const bytes = Math.min(left, weights.length - place);
      await file.write(weights, place, bytes);
      left -= bytes;
      place = (place + bytes) % weights.length;
    }
  } finally {
    await file.close();
  }
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
