import * as v from 'valibot';
import { Failure } from '../src/failure.ts';
import { GROUP_SIZE, type ModelConfig } from '../src/format/manifest.ts';
import { check } from './files.ts';

/** config.json of a checkpoint in the Hugging Face layout, as transformers 4 and 5 write it. */

const KNOWN = 'BaichuanForCausalLM';
/** Baichuan2-7B's file does not name its theta; this is what its code uses. */
const DEFAULT_THETA = 10_000;

const size = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const above0 = v.pipe(v.number(), v.finite(), v.gtValue(0));
const none = v.nullish(v.null());
const dtype = v.picklist(['float32', 'float16', 'bfloat16']);

/** Fields that would change the numbers may only say that they do not. Others are not read. */
const schema = v.looseObject({
  architectures: v.tuple([v.literal(KNOWN)]),
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: v.nullish(size),
  head_dim: v.nullish(size),
  max_position_embeddings: size,
  model_max_length: v.nullish(size),
  rms_norm_eps: above0,
  rope_theta: v.nullish(above0),
  rope_scaling: none,
  rope_parameters: v.nullish(
    v.strictObject({
      rope_theta: v.nullish(above0),
      rope_type: v.optional(v.literal('default')),
    }),
  ),
  torch_dtype: v.nullish(dtype),
  dtype: v.nullish(dtype),
  hidden_act: v.literal('silu'),
  tie_word_embeddings: v.optional(v.literal(false)),
  attention_bias: v.optional(v.literal(false)),
  mlp_bias: v.optional(v.literal(false)),
  quantization_config: none,
});

/**
 * The sizes of a model from its config.json.
 * @throws Failure BadCheckpoint: unknown architecture, missing or contradicting fields
 */
export function parseConfig(json: unknown, path: string): ModelConfig {
  checkArchitecture(json, path);
  const hf = check(schema, json, path);
  const theta = hf.rope_parameters?.rope_theta ?? hf.rope_theta ?? DEFAULT_THETA;
  if ((hf.rope_theta ?? theta) !== theta) {
    throw bad(path, `rope_theta ${hf.rope_theta} and rope_parameters.rope_theta ${theta}`);
  }
  const width = hf.hidden_size;
  const heads = hf.num_attention_heads;
  const headDim = hf.head_dim ?? width / heads;
  if (headDim * heads !== width || headDim % 2 !== 0) {
    throw bad(path, `${heads} heads of ${headDim} in a width of ${width}`);
  }
  if ((hf.num_key_value_heads ?? heads) !== heads) {
    throw bad(path, 'num_key_value_heads: grouped heads do not go with a fused W_pack');
  }
  if (width % GROUP_SIZE !== 0 || hf.intermediate_size % GROUP_SIZE !== 0) {
    throw bad(path, `hidden_size and intermediate_size must be multiples of ${GROUP_SIZE}`);
  }
  return {
    architecture: 'baichuan2',
    vocab: hf.vocab_size,
    width,
    layers: hf.num_hidden_layers,
    heads,
    kvHeads: heads,
    headDim,
    mlpWidth: hf.intermediate_size,
    normEps: hf.rms_norm_eps,
    positions: { kind: 'rope', theta },
    capacity: Math.min(hf.max_position_embeddings, hf.model_max_length ?? Infinity),
  };
}

function checkArchitecture(json: unknown, path: string): void {
  const { architectures } = check(
    v.looseObject({ architectures: v.pipe(v.array(v.string()), v.minLength(1)) }),
    json,
    path,
  );
  if (architectures.length !== 1 || architectures[0] !== KNOWN) {
    throw bad(
      path,
      `architecture ${architectures.join(', ')} is not known; convert reads ${KNOWN}`,
    );
  }
  // Baichuan2-13B uses ALiBi; the absence of this field is how its configuration shows it.
  if (!v.is(v.looseObject({ max_position_embeddings: v.number() }), json)) {
    throw bad(
      path,
      'no max_position_embeddings: a model with ALiBi, convert knows rotary ones only',
    );
  }
}

function bad(path: string, what: string): Failure {
  return new Failure('BadCheckpoint', `${path}: ${what}`);
}
