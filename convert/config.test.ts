import { describe, expect, it } from 'vitest';
import { failureName } from '../src/failure.ts';
import { parseConfig } from './config.ts';
import { config } from './testing.ts';

const parse = (changes: Record<string, unknown>) =>
  parseConfig({ ...config, ...changes }, 'c.json');

/** As published, and as transformers 5 writes them. */
const llama = {
  ...config,
  architectures: ['LlamaForCausalLM'],
  num_key_value_heads: 2,
  rope_scaling: null,
  attention_bias: false,
  mlp_bias: false,
  pretraining_tp: 1,
};
const qwen2 = {
  ...config,
  architectures: ['Qwen2ForCausalLM'],
  num_key_value_heads: 2,
  tie_word_embeddings: true,
  use_sliding_window: false,
  sliding_window: 32768,
  max_window_layers: 1,
  rope_theta: 1000000,
};
const qwen3 = {
  ...config,
  architectures: ['Qwen3ForCausalLM'],
  num_key_value_heads: 1,
  head_dim: 32,
  attention_bias: false,
  rope_theta: undefined,
  rope_parameters: { rope_theta: 1000000, rope_type: 'default' },
  use_sliding_window: false,
  sliding_window: null,
  layer_types: ['full_attention', 'full_attention'],
};

describe('config.json of', () => {
  const alibi = { ...config, max_position_embeddings: undefined, rope_theta: undefined };
  it.each([
    ['Baichuan2-13B', alibi, { positions: { kind: 'alibi' }, kvHeads: 4, capacity: 64 }],
    ['Llama', llama, { architecture: 'llama', kvHeads: 2, headDim: 16 }],
    ['a tied Llama', { ...llama, tie_word_embeddings: true }, { tiedHead: true }],
    ['Qwen2', qwen2, { architecture: 'qwen2', kvHeads: 2, qkvBias: true, tiedHead: true }],
    ['Qwen3', qwen3, { architecture: 'qwen3', kvHeads: 1, headDim: 32, qkNorm: true }],
    [
      'windows that no layer uses',
      { ...qwen2, use_sliding_window: true, max_window_layers: 2 },
      {},
    ],
    ['a default rope_scaling', { ...llama, rope_scaling: { rope_type: 'default' } }, {}],
  ])('%s is read', (_, json, expected) => {
    expect(parseConfig(json, 'c.json')).toMatchObject(expected);
  });

  it('Baichuan2 leaves out what it does not have', () => {
    const parsed = parseConfig(config, 'c.json');
    expect(Object.keys(parsed)).not.toContain('qkvBias');
    expect(Object.keys(parsed).length).toBe(11);
  });

  it.each([
    ['Llama with biases', { ...llama, attention_bias: true }, 'attention_bias'],
    ['Llama without a length', { ...llama, max_position_embeddings: undefined }, 'is missing'],
    ['Llama 3.1', { ...llama, rope_scaling: { rope_type: 'llama3', factor: 8 } }, 'rope_scaling'],
    ['uneven heads', { ...llama, num_key_value_heads: 3 }, '4 heads share 3 unevenly'],
    [
      'odd heads',
      { ...llama, head_dim: 9, num_attention_heads: 32, num_key_value_heads: 4 },
      'turn pairs',
    ],
    ['heads off the grid', { ...llama, head_dim: 12 }, '48 columns'],
    ['Qwen2 with windows', { ...qwen2, use_sliding_window: true }, 'sliding windows'],
    ['Qwen2 without its key heads', { ...qwen2, num_key_value_heads: undefined }, 'is missing'],
    ['Qwen2 with chunks', { ...qwen2, dual_chunk_attention_config: {} }, 'dual_chunk'],
    ['Qwen3 without head_dim', { ...qwen3, head_dim: undefined }, 'head_dim is missing'],
    [
      'Qwen3 with windows',
      { ...qwen3, layer_types: ['full_attention', 'sliding_attention'] },
      'sliding windows',
    ],
  ])('%s is refused', (_, json, message) => {
    try {
      parseConfig(json, 'c.json');
      expect.fail('accepted');
    } catch (error) {
      expect(failureName(error)).toBe('BadCheckpoint');
      expect(String(error)).toContain(message);
    }
  });
});

describe('config.json', () => {
  it('of transformers 4 and 5 means the same', () => {
    const five = parse({
      rope_theta: undefined,
      rope_parameters: { rope_theta: 20000, rope_type: 'default' },
      torch_dtype: undefined,
      dtype: 'bfloat16',
      head_dim: 16,
      num_key_value_heads: 4,
    });
    expect(five).toEqual(parse({ rope_theta: 20000 }));
    expect(five.positions).toEqual({ kind: 'rope', theta: 20000 });
    expect(five.headDim).toBe(16);
  });

  it('without a theta is Baichuan2-7B, whose code says 10000', () => {
    expect(parse({ rope_theta: undefined }).positions).toEqual({ kind: 'rope', theta: 10000 });
  });

  it('gives the smaller of two lengths as capacity', () => {
    expect(parse({ model_max_length: 32 }).capacity).toBe(32);
    expect(parse({ model_max_length: undefined }).capacity).toBe(64);
  });

  it.each([
    [{ architectures: ['GPT2LMHeadModel'] }, 'architecture GPT2LMHeadModel is not known'],
    [{ architectures: undefined }, 'architectures'],
    [{ max_position_embeddings: undefined, model_max_length: undefined }, 'neither max_position'],
    [{ vocab_size: 64000 }, 'Baichuan 1'],
    [{ head_dim: 32 }, '4 heads of 32 in a width of 64'],
    [{ hidden_size: '64' }, 'hidden_size'],
    [{ hidden_size: 63 }, '4 heads of 15.75 in a width of 63'],
    [{ intermediate_size: 100 }, 'not a multiple of 32'],
    [{ num_key_value_heads: 2 }, 'num_key_value_heads'],
    [{ rope_scaling: { type: 'linear', factor: 2 } }, 'rope_scaling'],
    [{ rope_parameters: { rope_theta: 1e4, rope_type: 'yarn' } }, 'rope_parameters.rope_type'],
    [{ rope_parameters: { rope_theta: 5e5 } }, 'rope_theta 10000'],
    [{ torch_dtype: 'int8' }, 'torch_dtype'],
    [{ hidden_act: 'gelu' }, 'hidden_act'],
    [{ tie_word_embeddings: true }, 'tie_word_embeddings'],
    [{ attention_bias: true }, 'attention_bias'],
    [{ quantization_config: { bits: 4 } }, 'quantization_config'],
    [{ rms_norm_eps: 0 }, 'rms_norm_eps'],
  ])('with %j is refused', (changes, message) => {
    try {
      parse(changes);
      expect.fail('accepted');
    } catch (error) {
      expect(failureName(error)).toBe('BadCheckpoint');
      expect(String(error)).toContain('c.json');
      expect(String(error)).toContain(message);
    }
  });
});
