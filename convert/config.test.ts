import { describe, expect, it } from 'vitest';
import { failureName } from '../src/failure.ts';
import { parseConfig } from './config.ts';
import { config } from './testing.ts';

const parse = (changes: Record<string, unknown>) =>
  parseConfig({ ...config, ...changes }, 'c.json');

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
    expect(five.positions.theta).toBe(20000);
    expect(five.headDim).toBe(16);
  });

  it('without a theta is Baichuan2-7B, whose code says 10000', () => {
    expect(parse({ rope_theta: undefined }).positions.theta).toBe(10000);
  });

  it('gives the smaller of two lengths as capacity', () => {
    expect(parse({ model_max_length: 32 }).capacity).toBe(32);
    expect(parse({ model_max_length: undefined }).capacity).toBe(64);
  });

  it.each([
    [{ architectures: ['LlamaForCausalLM'] }, 'architecture LlamaForCausalLM is not known'],
    [{ architectures: undefined }, 'architectures'],
    [{ max_position_embeddings: undefined }, 'ALiBi'],
    [{ hidden_size: '64' }, 'hidden_size'],
    [{ hidden_size: 63 }, '4 heads of 15.75 in a width of 63'],
    [{ intermediate_size: 100 }, 'multiples of 32'],
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
