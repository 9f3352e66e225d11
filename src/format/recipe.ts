import * as v from 'valibot';

/** How a base's weights are rounded: a recipe says it for each class of tensors. */

/** Elements along K that share one scale. */
export const GROUP_SIZE = 32;

export const TENSOR_CLASSES = [
  'embedding',
  'attention_qkv',
  'attention_out',
  'ffn_gate_up',
  'ffn_down',
  'vectors', // norms and biases
  'head',
] as const;
export type TensorClass = (typeof TENSOR_CLASSES)[number];

const group = v.literal(GROUP_SIZE, `groups have ${GROUP_SIZE} values`);
const matrix = v.variant('dtype', [
  // naive: the value of largest size becomes -8; search: the scale with the least squared error
  v.strictObject({ dtype: v.literal('q4'), group, scales: v.picklist(['naive', 'search']) }),
  v.strictObject({
    dtype: v.literal('q8'),
    group,
    scales: v.literal('naive', '8 bits have "naive" scales only: the largest value becomes 127'),
  }),
  v.strictObject({ dtype: v.literal('f16') }),
  v.strictObject({ dtype: v.literal('f32') }),
]);
const vectors = v.strictObject({
  dtype: v.picklist(['f16', 'f32'], 'vectors have no groups: f32 or f16'),
});

/** What each class is stored as. */
export const recipeClasses = v.strictObject({
  embedding: matrix,
  attention_qkv: matrix,
  attention_out: matrix,
  ffn_gate_up: matrix,
  ffn_down: matrix,
  vectors,
  head: matrix,
});
export type RecipeClasses = v.InferOutput<typeof recipeClasses>;

/** The class of a tensor of the base, by its name in a package. */
export function classOf(name: string): TensorClass {
  const classes: Readonly<Record<string, TensorClass>> = {
    embed: 'embedding',
    qkv: 'attention_qkv',
    attention_out: 'attention_out',
    gate_up: 'ffn_gate_up',
    down: 'ffn_down',
    head: 'head',
  };
  return classes[name.split('.').at(-1) ?? ''] ?? 'vectors';
}
