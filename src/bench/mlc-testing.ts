import { library, tvmExports } from '../peer/testing.ts';

/** Made-up libraries: what MLC-LLM writes into one of a model of these sizes, and nothing else. */

export interface Sizes {
  readonly vocab: number | 'vocab_size';
  readonly width: number;
  readonly mlpWidth: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
}

type Param = { name: string; shape: (number | string)[]; dtype: string; preprocs: string[] };

/** Qwen2 has `c_attn` with a bias and may share its embedding, Llama `qkv_proj` and a head. */
export function mlcMetadata(family: 'qwen2' | 'llama', sizes: Sizes, quantization: string) {
  const { vocab, width, mlpWidth, layers, heads, kvHeads } = sizes;
  const float = quantization.includes('f16') ? 'float16' : 'float32';
  const byColumns = quantization.endsWith('_0');
  const params: Param[] = [];
  const add = (name: string, dtype: string, ...shape: (number | string)[]): void =>
    void params.push({ name, shape, dtype, preprocs: [] });
  const matrix = (
    name: string,
    rows: number | string,
    columns: number,
    turned = byColumns,
  ): void => {
    const words = turned ? [columns / 8, rows] : [rows, columns / 8];
    const scales = turned ? [columns / 32, rows] : [rows, columns / 32];
    add(`${name}.q_weight`, 'uint32', ...words);
    add(`${name}.q_scale`, float, ...scales);
  };
  const headDim = width / heads;
  const qkv = (heads + 2 * kvHeads) * headDim;
  matrix('model.embed_tokens', vocab, width, false);
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}`;
    const attention = family === 'qwen2' ? 'c_attn' : 'qkv_proj';
    matrix(`${at}.self_attn.${attention}`, qkv, width);
    if (family === 'qwen2') add(`${at}.self_attn.c_attn.bias`, float, qkv);
    matrix(`${at}.self_attn.o_proj`, width, width);
    matrix(`${at}.mlp.gate_up_proj`, 2 * mlpWidth, width);
    matrix(`${at}.mlp.down_proj`, width, mlpWidth);
    add(`${at}.input_layernorm.weight`, float, width);
    add(`${at}.post_attention_layernorm.weight`, float, width);
  }
  add('model.norm.weight', float, width);
  if (family === 'llama') matrix('lm_head', vocab, width);
  return {
    model_type: family,
    quantization,
    context_window_size: 4096,
    sliding_window_size: -1,
    attention_sink_size: -1,
    prefill_chunk_size: 1024,
    tensor_parallel_shards: 1,
    pipeline_parallel_stages: 1,
    disaggregation: false,
    kv_state_kind: 'kv_cache',
    max_batch_size: 1,
    params,
    memory_usage: { prefill: 1, decode: 2, note: 'a "quoted" } text' },
    kv_cache: {
      num_hidden_layers: layers,
      num_attention_heads: heads,
      num_key_value_heads: kvHeads,
      head_dim: headDim,
    },
  };
}

/** A library with this text in its data, behind `before` other bytes. */
export function mlcLibrary(metadata: object, before = 0): Uint8Array<ArrayBuffer> {
  const other = '{"name":"{"\n'.repeat(20).slice(0, before).padEnd(before, '\u0000');
  return library(tvmExports, `${other}${JSON.stringify(metadata)}\u0000rest`);
}

/** Small, odd, and right. */
export const SMALL: Sizes = { vocab: 96, width: 64, mlpWidth: 96, layers: 2, heads: 2, kvHeads: 1 };
