import * as v from 'valibot';
import { Failure } from '../src/failure.ts';
import { GROUP_SIZE, type ModelConfig } from '../src/format/manifest.ts';
import { check } from './files.ts';

/** config.json of a checkpoint in the Hugging Face layout, as transformers 4 and 5 write it. */

const FAMILIES: Readonly<Record<string, ModelConfig['architecture']>> = {
  BaichuanForCausalLM: 'baichuan2',
  LlamaForCausalLM: 'llama',
  Qwen2ForCausalLM: 'qwen2',
  Qwen3ForCausalLM: 'qwen3',
};
/** Where a file does not name its theta, the code of every family uses this. */
const DEFAULT_THETA = 10_000;
/** Layers before this one see everything, where a file with sliding windows does not say. */
const DEFAULT_WINDOW_LAYERS = 28;
const BAICHUAN1_VOCAB = 64_000;
/** Their classes fill what is absent with sizes of their own. */
const NEEDED: Readonly<Record<ModelConfig['architecture'], readonly string[]>> = {
  baichuan2: [],
  llama: ['max_position_embeddings'],
  qwen2: ['max_position_embeddings', 'num_key_value_heads'],
  qwen3: ['max_position_embeddings', 'num_key_value_heads', 'head_dim'],
};

const size = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const above0 = v.pipe(v.number(), v.finite(), v.gtValue(0));
const none = v.nullish(v.null());
const unscaled = v.optional(v.literal('default'));
const dtype = v.picklist(['float32', 'float16', 'bfloat16']);

/** Fields that would change the numbers may only say that they do not. Others are not read. */
const schema = v.looseObject({
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: v.nullish(size),
  head_dim: v.nullish(size),
  max_position_embeddings: v.optional(size),
  model_max_length: v.nullish(size),
  rms_norm_eps: above0,
  rope_theta: v.nullish(above0),
  rope_scaling: v.nullish(v.strictObject({ type: unscaled, rope_type: unscaled })),
  rope_parameters: v.nullish(
    v.strictObject({ rope_theta: v.nullish(above0), rope_type: unscaled }),
  ),
  use_sliding_window: v.nullish(v.boolean()),
  sliding_window: v.nullish(count),
  max_window_layers: v.nullish(count),
  layer_types: v.nullish(v.array(v.string())),
  dual_chunk_attention_config: none,
  torch_dtype: v.nullish(dtype),
  dtype: v.nullish(dtype),
  hidden_act: v.literal('silu'),
  tie_word_embeddings: v.optional(v.boolean()),
  attention_bias: v.optional(v.literal(false)),
  mlp_bias: v.optional(v.literal(false)),
  quantization_config: none,
});

type HfConfig = v.InferOutput<typeof schema>;

/**
 * The sizes of a model from its config.json.
 * @throws Failure BadCheckpoint: unknown architecture, missing or contradicting fields
 */
export function parseConfig(json: unknown, path: string): ModelConfig {
  const architecture = architectureOf(json, path);
  const hf = check(schema, json, path);
  const missing = NEEDED[architecture].find((name) => (hf[name] ?? null) === null);
  if (missing !== undefined) throw bad(path, `${missing} is missing`);
  const width = hf.hidden_size;
  const heads = hf.num_attention_heads;
  const kvHeads = hf.num_key_value_heads ?? heads;
  const headDim = hf.head_dim ?? width / heads;
  if (!Number.isInteger(headDim))
    throw bad(path, `${heads} heads of ${headDim} in a width of ${width}`);
  if (heads % kvHeads !== 0) {
    throw bad(path, `num_key_value_heads: ${heads} heads share ${kvHeads} unevenly`);
  }
  for (const columns of [width, heads * headDim, hf.intermediate_size]) {
    if (columns % GROUP_SIZE === 0) continue;
    throw bad(path, `${columns} columns of a matrix: not a multiple of ${GROUP_SIZE}`);
  }
  if (architecture === 'baichuan2') checkBaichuan(hf, path);
  refuseWindows(hf, path);
  const positions = positionsOf(hf, path);
  if (positions.kind === 'rope' && headDim % 2 !== 0) {
    throw bad(path, `heads of ${headDim}: rotary positions turn pairs`);
  }
  return {
    architecture,
    vocab: hf.vocab_size,
    width,
    layers: hf.num_hidden_layers,
    heads,
    kvHeads,
    headDim,
    mlpWidth: hf.intermediate_size,
    normEps: hf.rms_norm_eps,
    positions,
    capacity: capacityOf(hf, path),
    // Left out where they are not so: the manifest of a Baichuan2 model has none of them.
    ...(architecture === 'qwen2' && { qkvBias: true }),
    ...(architecture === 'qwen3' && { qkNorm: true }),
    ...(hf.tie_word_embeddings && { tiedHead: true }),
  };
}

function architectureOf(json: unknown, path: string): ModelConfig['architecture'] {
  const { architectures } = check(
    v.looseObject({ architectures: v.pipe(v.array(v.string()), v.minLength(1)) }),
    json,
    path,
  );
  const [name = '', other] = architectures;
  const family = other === undefined && Object.hasOwn(FAMILIES, name) ? FAMILIES[name] : undefined;
  if (family !== undefined) return family;
  const known = Object.keys(FAMILIES).join(', ');
  throw bad(path, `architecture ${architectures.join(', ')} is not known; convert reads ${known}`);
}

/** Baichuan2 has a fused W_pack and a NormHead: neither shares keys, nor is a table of tokens. */
function checkBaichuan(hf: HfConfig, path: string): void {
  const heads = hf.num_attention_heads;
  if (hf.vocab_size === BAICHUAN1_VOCAB) {
    throw bad(path, `vocab_size ${BAICHUAN1_VOCAB} is Baichuan 1, whose head is not normalised`);
  }
  if ((hf.num_key_value_heads ?? heads) !== heads) {
    throw bad(path, 'num_key_value_heads: grouped heads do not go with a fused W_pack');
  }
  if ((hf.head_dim ?? hf.hidden_size / heads) * heads !== hf.hidden_size) {
    throw bad(path, `${heads} heads of ${hf.head_dim} in a width of ${hf.hidden_size}`);
  }
  if (hf.tie_word_embeddings) throw bad(path, 'tie_word_embeddings: not with a NormHead');
}

/** A Baichuan2 file without max_position_embeddings is one with linear biases (13B). */
function positionsOf(hf: HfConfig, path: string): ModelConfig['positions'] {
  if (hf.max_position_embeddings === undefined) return { kind: 'alibi' };
  const theta = hf.rope_parameters?.rope_theta ?? hf.rope_theta ?? DEFAULT_THETA;
  if ((hf.rope_theta ?? theta) !== theta) {
    throw bad(path, `rope_theta ${hf.rope_theta} and rope_parameters.rope_theta ${theta}`);
  }
  return { kind: 'rope', theta };
}

function capacityOf(hf: HfConfig, path: string): number {
  const lengths = [hf.max_position_embeddings, hf.model_max_length];
  const capacity = Math.min(...lengths.map((length) => length ?? Infinity));
  if (capacity < Infinity) return capacity;
  throw bad(path, 'neither max_position_embeddings nor model_max_length');
}

/** Layers that see a part of the past only; a window that no layer uses is no matter. */
function refuseWindows(hf: HfConfig, path: string): void {
  const fromLayer = hf.max_window_layers ?? DEFAULT_WINDOW_LAYERS;
  const used =
    hf.layer_types?.some((type) => type !== 'full_attention') ??
    (hf.use_sliding_window === true && fromLayer < hf.num_hidden_layers);
  if (used) throw bad(path, 'sliding windows are in use; convert knows full attention only');
}

function bad(path: string, what: string): Failure {
  return new Failure('BadCheckpoint', `${path}: ${what}`);
}
