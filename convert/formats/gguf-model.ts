import { bad, type StoredTensor } from './stored.ts';
import type { Gguf, GgufTensor, GgufValue } from './gguf.ts';

/**
 * A GGUF file as the checkpoint it was made from: its metadata as config.json, its tensors by
 * their Hugging Face names and in their order of rows (convert_hf_to_gguf.py of llama.cpp).
 */

/** A table that does not find 'constructor'. */
function table<T>(entries: Readonly<Record<string, T>>): ReadonlyMap<string, T> {
  return new Map(Object.entries(entries));
}

/** Families with their class; where `turned`, rows of queries and keys were put in another order. */
interface Family {
  readonly name: string;
  readonly turned: boolean;
}

const FAMILIES = table<Family>({
  llama: { name: 'LlamaForCausalLM', turned: true },
  baichuan: { name: 'BaichuanForCausalLM', turned: true },
  qwen2: { name: 'Qwen2ForCausalLM', turned: false },
  qwen3: { name: 'Qwen3ForCausalLM', turned: false },
});
/** llama.cpp takes a Baichuan of so many layers for the one with linear biases. */
const ALIBI_LAYERS = 40;

const PARTS = table<string>({
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
});
const OUTSIDE = table<string>({
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
});

/** Keys whose presence changes the numbers, unless they have the value that says they do not. */
const REFUSED: readonly (readonly [string, readonly GgufValue[]])[] = [
  ['rope.scaling.type', ['none']],
  ['rope.scaling.factor', [0, 1]],
  ['rope.scale_linear', [0, 1]],
  ['expert_count', [0]],
  ['attention.sliding_window', [0]],
  ['attention.clamp_kqv', [0]],
  ['attention.scale', []],
  ['logit_scale', [1]],
  ['residual_scale', [1]],
  ['embedding_scale', [1]],
];

/**
 * The config.json that the metadata stands for; `parseConfig` then judges it as any other.
 * @throws Failure BadCheckpoint: another architecture, or one that changes the numbers
 */
export function ggufConfig({ metadata, tensors }: Gguf): Record<string, unknown> {
  const family = metadata.get('general.architecture');
  const { name } = familyOf(metadata);
  const of = (key: string) => metadata.get(`${String(family)}.${key}`);
  for (const [key, harmless] of REFUSED) {
    const value = of(key);
    if (value === undefined || harmless.includes(value)) continue;
    throw bad(`GGUF: ${String(family)}.${key} is ${String(value)}, which convert does not know`);
  }
  const heads = of('attention.head_count');
  const width = of('embedding_length');
  const headDim = of('attention.key_length') ?? Number(width) / Number(heads);
  for (const key of ['attention.value_length', 'rope.dimension_count']) {
    const value = of(key) ?? headDim;
    if (value === headDim || (key.startsWith('rope') && value === 0)) continue;
    throw bad(`GGUF: ${String(family)}.${key} is ${String(value)}, heads have ${String(headDim)}`);
  }
  const layers = of('block_count');
  const alibi = family === 'baichuan' && layers === ALIBI_LAYERS;
  const capacity = of('context_length');
  return {
    architectures: [name],
    vocab_size: tensors.get('token_embd.weight')?.shape[0],
    hidden_size: width,
    intermediate_size: of('feed_forward_length'),
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: of('attention.head_count_kv') ?? heads,
    head_dim: headDim,
    ...(alibi ? { model_max_length: capacity } : { max_position_embeddings: capacity }),
    rms_norm_eps: of('attention.layer_norm_rms_epsilon'),
    rope_theta: of('rope.freq_base'),
    hidden_act: 'silu',
    tie_word_embeddings: !tensors.has('output.weight'),
  };
}

/** Tensors under their Hugging Face names. @throws Failure BadCheckpoint for one that has none */
export function ggufTensors({ metadata, tensors }: Gguf): ReadonlyMap<string, StoredTensor> {
  const { turned } = familyOf(metadata);
  const prefix = String(metadata.get('general.architecture'));
  const heads = numberOf(metadata, `${prefix}.attention.head_count`);
  const kvHeads = numberOf(metadata, `${prefix}.attention.head_count_kv`, heads);
  const named = new Map<string, StoredTensor>();
  for (const [own, tensor] of tensors) {
    const [, layer, part, kind] = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(own) ?? [];
    const place = PARTS.get(part ?? '');
    const name =
      place === undefined ? OUTSIDE.get(own) : `model.layers.${layer}.${place}.${String(kind)}`;
    if (name === undefined) throw bad(`GGUF: tensor ${own} has no place in a model that we know`);
    const shared = part === 'attn_q' ? heads : part === 'attn_k' ? kvHeads : 0;
    named.set(name, turned && shared > 0 ? unturned(own, tensor, shared) : plain(tensor));
  }
  if (prefix === 'baichuan') fuse(named);
  return named;
}

function familyOf(metadata: Gguf['metadata']): Family {
  const architecture = metadata.get('general.architecture');
  const family = typeof architecture === 'string' ? FAMILIES.get(architecture) : undefined;
  if (family !== undefined) return family;
  const known = [...FAMILIES.keys()].join(', ');
  throw bad(`GGUF: architecture ${String(architecture)} is not known; convert reads ${known}`);
}

function numberOf(metadata: Gguf['metadata'], key: string, fallback?: number): number {
  const value = metadata.get(key) ?? fallback;
  if (typeof value === 'number' && Number.isInteger(value) && value > 0) return value;
  throw bad(`GGUF: ${key} is ${value === undefined ? 'missing' : String(value)}`);
}

function plain({ shape, rows }: GgufTensor): StoredTensor {
  const rowBytes = async (from: number, to: number) =>
    new Uint8Array((await rows(from, to)).buffer);
  return { dtype: 'F32', shape, rowBytes };
}

/**
 * Rows of a projection in the order of Hugging Face. There RoPE turns rows (i, i + Dh/2) of a
 * head, here (2i, 2i + 1): the file has row i of the first half at 2i, of the second at 2i + 1.
 */
function unturned(name: string, { shape, rows }: GgufTensor, heads: number): StoredTensor {
  const [count = 0] = shape;
  const headDim = count / heads;
  if (headDim % 2 !== 0) throw bad(`GGUF: tensor ${name}: ${count} rows for ${heads} heads`);
  const columns = shape.slice(1).reduce((product, one) => product * one, 1);
  const rowBytes = async (from: number, to: number) => {
    const first = Math.floor(from / headDim) * headDim;
    const file = await rows(first, Math.ceil(to / headDim) * headDim);
    const values = new Float32Array((to - from) * columns);
    for (let row = from; row < to; row++) {
      const inHead = row % headDim;
      const half = inHead < headDim / 2 ? 0 : 1;
      const there = row - inHead + 2 * (inHead - (half * headDim) / 2) + half - first;
      values.set(file.subarray(there * columns, (there + 1) * columns), (row - from) * columns);
    }
    return new Uint8Array(values.buffer);
  };
  return { dtype: 'F32', shape, rowBytes };
}

/** Baichuan's q, k and v, apart in the file, as the one W_pack that they were. */
function fuse(named: Map<string, StoredTensor>): void {
  for (const name of [...named.keys()]) {
    const prefix = /^(.*\.self_attn\.)q_proj\.weight$/.exec(name)?.[1];
    if (prefix === undefined) continue;
    const parts = ['q', 'k', 'v'].flatMap((one) => named.get(`${prefix}${one}_proj.weight`) ?? []);
    if (parts.length !== 3)
      throw bad(`GGUF: ${prefix}: queries, keys and values are not all there`);
    for (const one of ['q', 'k', 'v']) named.delete(`${prefix}${one}_proj.weight`);
    named.set(`${prefix}W_pack.weight`, stacked(parts));
  }
}

/** Matrices one below the other. */
function stacked(parts: readonly StoredTensor[]): StoredTensor {
  const rows = parts.map(({ shape }) => shape[0] ?? 0);
  const total = rows.reduce((sum, one) => sum + one, 0);
  const rowBytes = async (from: number, to: number) => {
    const pieces: Uint8Array[] = [];
    let first = 0;
    for (const [i, part] of parts.entries()) {
      const [low, high] = [Math.max(from, first), Math.min(to, first + (rows[i] ?? 0))];
      if (low < high) pieces.push(await part.rowBytes(low - first, high - first));
      first += rows[i] ?? 0;
    }
    const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
    pieces.reduce((at, piece) => (bytes.set(piece, at), at + piece.length), 0);
    return bytes;
  };
  return { dtype: 'F32', shape: [total, ...(parts[0]?.shape.slice(1) ?? [])], rowBytes };
}
