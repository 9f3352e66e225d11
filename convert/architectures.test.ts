import { describe, expect, it } from 'vitest';
import { writeSafetensors } from '../src/format/safetensors.ts';
import {
  adapterConfig,
  adapterTensors,
  checkpointFiles,
  config,
  EXPERTS,
  f32,
  modelTensors,
  randomNumbers,
  RANK,
  tiny,
  values,
  type Tensors,
} from './testing.ts';
import { failure, hashes, read, run, type Files } from './testing-run.ts';

/** Llama, Qwen2 and Qwen3: from three projections, with what else they have, to one tensor. */

interface Family {
  readonly name: 'Llama' | 'Qwen2' | 'Qwen3';
  readonly kvHeads: number;
  readonly headDim: number;
  readonly tied: boolean;
}

const llama: Family = { name: 'Llama', kvHeads: 2, headDim: 16, tied: false };
const qwen2: Family = { name: 'Qwen2', kvHeads: 1, headDim: 16, tied: true };
const qwen3: Family = { name: 'Qwen3', kvHeads: 2, headDim: 32, tied: false };

const attention = (layer: number, name: string) => `model.layers.${layer}.self_attn.${name}`;

/** The random checkpoint with q, k and v apart. */
function tensorsOf({ name, kvHeads, headDim, tied }: Family): Tensors {
  const tensors = modelTensors();
  const random = randomNumbers(9);
  const matrix = (rows: number, columns: number) => f32([rows, columns], () => random() / 4);
  const rows = {
    q_proj: tiny.heads * headDim,
    k_proj: kvHeads * headDim,
    v_proj: kvHeads * headDim,
  };
  for (let i = 0; i < tiny.layers; i++) {
    delete tensors[attention(i, 'W_pack.weight')];
    for (const [part, count] of Object.entries(rows)) {
      tensors[attention(i, `${part}.weight`)] = matrix(count, tiny.width);
      if (name === 'Qwen2') tensors[attention(i, `${part}.bias`)] = f32([count], random);
    }
    tensors[attention(i, 'o_proj.weight')] = matrix(tiny.width, rows.q_proj);
    if (name !== 'Qwen3') continue;
    tensors[attention(i, 'q_norm.weight')] = f32([headDim], random);
    tensors[attention(i, 'k_norm.weight')] = f32([headDim], random);
  }
  if (tied) delete tensors['lm_head.weight'];
  return tensors;
}

function filesOf(family: Family, tensors = tensorsOf(family)): Files {
  const { name, kvHeads, headDim, tied } = family;
  return {
    ...checkpointFiles(tensors),
    'config.json': {
      ...config,
      architectures: [`${name}ForCausalLM`],
      num_key_value_heads: kvHeads,
      head_dim: headDim,
      tie_word_embeddings: tied,
    },
  };
}

function stacked(tensors: Tensors, names: readonly string[]): number[] {
  return names.flatMap((name) => [...values(tensors[name])]);
}

describe.each([llama, qwen2, qwen3])('a $name checkpoint', (family) => {
  const tensors = tensorsOf(family);

  it('has its projections in one tensor, queries first', async () => {
    const made = await run(filesOf(family), null);
    const { kvHeads, headDim } = made.manifest.config;
    for (let i = 0; i < tiny.layers; i++) {
      const names = ['q_proj', 'k_proj', 'v_proj'].map((one) => attention(i, `${one}.weight`));
      const [stored, expected] = [await read(made, `layers.${i}.qkv`), stacked(tensors, names)];
      expect(stored.length).toBe((tiny.heads + 2 * kvHeads) * headDim * tiny.width);
      const worst = Math.max(...expected.map((x, at) => Math.abs(x - (stored[at] ?? NaN))));
      expect(worst).toBeLessThan(0.25 / 7);
    }
  });

  it('keeps biases and norms to the bit, and its head as long as it is', async () => {
    const made = await run(filesOf(family), null);
    const names = new Set(made.manifest.tensors.map((tensor) => tensor.name));
    const vector = async (name: string, sources: readonly string[]) => {
      const has = sources.every((source) => tensors[attention(1, source)] !== undefined);
      expect(names.has(`layers.1.${name}`)).toBe(has);
      if (!has) return;
      const expected = stacked(
        tensors,
        sources.map((source) => attention(1, source)),
      );
      expect([...(await read(made, `layers.1.${name}`))]).toEqual(expected);
    };
    await vector('qkv_bias', ['q_proj.bias', 'k_proj.bias', 'v_proj.bias']);
    await vector('qk_norm', ['q_norm.weight', 'k_norm.weight']);
    expect(names.has('head')).toBe(!family.tied);
    if (family.tied) return;
    const [head, original] = [await read(made, 'head'), values(tensors['lm_head.weight'])];
    const worst = Math.max(...head.map((x, i) => Math.abs(x - (original[i] ?? NaN))));
    expect(worst).toBeLessThan(0.005);
  });
});

describe('a tied head', () => {
  const table = tensorsOf(qwen2)['model.embed_tokens.weight'];

  it('that is stored all the same is left out', async () => {
    const twice = { ...tensorsOf(qwen2), ...(table && { 'lm_head.weight': table }) };
    const [one, two] = [await run(filesOf(qwen2), null), await run(filesOf(qwen2, twice), null)];
    expect(hashes(two.manifest, 'shard')).toEqual(hashes(one.manifest, 'shard'));
  });

  it('that is not the embedding is refused', async () => {
    const other = values(table).slice();
    other[other.length - 1] = 1;
    const head = f32([tiny.vocab, tiny.width], (i) => other[i] ?? 0);
    const tensors = { ...tensorsOf(qwen2), 'lm_head.weight': head };
    expect(await failure(run(filesOf(qwen2, tensors), null))).toContain(
      'BadCheckpoint: ', // and in which folder
    );
    expect(await failure(run(filesOf(qwen2, tensors), null))).toContain(
      'lm_head.weight differs from model.embed_tokens.weight',
    );
  });
});

it.each<[string, Family, (tensors: Tensors) => unknown, string]>([
  [
    'a bias too many',
    llama,
    (t) => (t[attention(0, 'q_proj.bias')] = f32([64], () => 0)),
    'no place in a llama model',
  ],
  ['a bias too few', qwen2, (t) => delete t[attention(1, 'k_proj.bias')], 'k_proj.bias is missing'],
  [
    'a norm too few',
    qwen3,
    (t) => delete t[attention(1, 'k_norm.weight')],
    'k_norm.weight is missing',
  ],
  [
    'a fused projection',
    llama,
    (t) => (t[attention(0, 'W_pack.weight')] = f32([1, 1], () => 0)),
    'W_pack.weight has no place',
  ],
  ['no head', llama, (t) => delete t['lm_head.weight'], 'lm_head.weight is missing'],
])('a checkpoint with %s is refused', async (_, family, change, message) => {
  const tensors = tensorsOf(family);
  change(tensors);
  expect(await failure(run(filesOf(family, tensors), null))).toContain(message);
});

describe('an adapter', () => {
  /** Experts for the projections of Qwen3, beside those that every adapter here has. */
  function adapterFiles(targets: readonly string[]): Files {
    const random = randomNumbers(5);
    const tensors = adapterTensors(2, false);
    const { kvHeads, headDim } = qwen3;
    const queries = tiny.heads * headDim;
    const shapes = {
      q_proj: [tiny.width, queries],
      v_proj: [tiny.width, kvHeads * headDim],
      o_proj: [queries, tiny.width],
    } as const;
    for (let i = 0; i < tiny.layers; i++) {
      for (const [name, [inputs, outputs]] of Object.entries(shapes)) {
        const prefix = `base_model.model.${attention(i, name)}`;
        tensors[`${prefix}.lora_moe_A`] = f32([EXPERTS, inputs, RANK], random);
        tensors[`${prefix}.lora_moe_B`] = f32([EXPERTS, RANK, outputs], random);
      }
    }
    return {
      'adapter_config.json': { ...adapterConfig(), target_modules: targets },
      'adapter_model.safetensors': writeSafetensors(tensors),
    };
  }
  const mlp = ['gate_proj', 'up_proj', 'down_proj'];

  it('names the rows of the linears that were apart', async () => {
    const files = adapterFiles([...mlp, 'v_proj', 'o_proj', 'q_proj']);
    const { manifest } = await run(filesOf(qwen3), files);
    const linears = manifest.adapter?.linears ?? [];
    const rows = Object.fromEntries(linears.map((one) => [one.linear, [one.tensor, ...one.rows]]));
    expect(rows['layers.1.self_attn.q_proj']).toEqual(['layers.1.qkv', 0, 128]);
    expect(rows['layers.1.self_attn.v_proj']).toEqual(['layers.1.qkv', 192, 256]);
    expect(rows['layers.1.self_attn.o_proj']).toEqual(['layers.1.attention_out', 0, 64]);
    expect(manifest.adapter?.targets).toEqual(['q_proj', 'v_proj', 'o_proj', ...mlp]);
    const shapes = new Map(manifest.tensors.map(({ name, shape }) => [name, shape]));
    expect(shapes.get('adapter.layers.0.v_proj.b')).toEqual([64, EXPERTS * RANK]);
    expect(shapes.get('adapter.layers.0.o_proj.a')).toEqual([EXPERTS * RANK, 128]);
  });

  it.each([
    ['W_pack', () => filesOf(qwen3), 'a qwen3 model has no W_pack'],
    ['k_proj', () => checkpointFiles(), 'a baichuan2 model has no k_proj'],
  ])('of a linear that the model does not have is refused: %s', async (target, files, message) => {
    expect(await failure(run(files(), adapterFiles([target])))).toContain(message);
  });
});
