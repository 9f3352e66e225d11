import { join } from 'node:path';
import * as v from 'valibot';
import { Failure } from '../src/failure.ts';
import { check, readJson } from './files.ts';

/** adapter_config.json, of the paper's MoE-Adapter and of plain LoRA (PEFT). */

export const LINEARS = [
  'W_pack',
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
] as const;
export type LinearName = (typeof LINEARS)[number];

const size = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const off = v.nullish(v.literal(false));
const none = v.nullish(v.null());
const nothing = v.nullish(v.pipe(v.array(v.unknown()), v.maxLength(0, 'must be empty')));
/** A rank or a scale of its own for some linears. */
const noPattern = v.optional(v.strictObject({}, 'one rank and one alpha for all linears are read'));

/** Fields that would change the numbers may only say that they do not. Others are not read. */
const schema = v.looseObject({
  peft_type: v.literal('LORA'),
  r: size,
  lora_alpha: v.pipe(v.number(), v.finite()),
  lora_nums: v.nullish(v.pipe(size, v.minValue(2))),
  target_modules: v.union([
    v.literal('all-linear'),
    v.pipe(v.array(v.picklist(LINEARS)), v.minLength(1)),
  ]),
  mode: v.optional(v.picklist(['merged', 'routed'])),
  bias: v.optional(v.literal('none')),
  use_rslora: v.nullish(v.boolean()),
  use_dora: off,
  use_qalora: off,
  lora_bias: off,
  fan_in_fan_out: off,
  // Other ways of beginning also change the base model's weights.
  init_lora_weights: v.optional(
    v.union([v.boolean(), v.picklist(['gaussian', 'eva', 'orthogonal'])]),
  ),
  alpha_pattern: noPattern,
  rank_pattern: noPattern,
  modules_to_save: nothing,
  target_parameters: nothing,
  trainable_token_indices: none,
  layers_to_transform: none,
  layer_replication: none,
});

export interface AdapterConfig {
  readonly rank: number; // r, of every expert
  /** All adapted output is scaled by alpha / r; with rsLoRA (arXiv 2312.03732) that is not the file's. */
  readonly alpha: number;
  /** E, the universal one included; null for plain LoRA. */
  readonly experts: number | null;
  /** null: every linear of a layer. */
  readonly targets: readonly LinearName[] | null;
  readonly mode: 'merged' | 'routed' | null;
}

/** @throws Failure NotFound, BadCheckpoint */
export async function readAdapterConfig(folder: string): Promise<AdapterConfig> {
  const name = 'adapter_config.json';
  const path = join(folder, name);
  const json = check(schema, await readJson(folder, name, 'is this an adapter folder?'), path);
  const { r, lora_alpha: alpha, lora_nums: experts, target_modules: targets, mode } = json;
  if ((experts ?? null) === null && mode === 'routed') {
    throw new Failure('BadCheckpoint', `${path}: mode is routed, but there is no lora_nums`);
  }
  return {
    rank: r,
    alpha: json.use_rslora === true ? alpha * Math.sqrt(r) : alpha,
    experts: experts ?? null,
    targets: targets === 'all-linear' ? null : targets,
    mode: mode ?? null,
  };
}
