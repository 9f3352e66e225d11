import { describe, expect, it } from 'vitest';
import { writeSafetensors } from '../src/format/safetensors.ts';
import {
  adapterConfig,
  adapterTensors,
  card,
  checkpointFiles,
  config,
  f32,
  mergedAdapterFiles,
  modelTensors,
  routedAdapterFiles,
  taskGates,
  without,
  type Tensors,
} from './testing.ts';
import { failure, run, type Files } from './testing-run.ts';

describe('what cannot be converted is named', () => {
  const model = (change: (tensors: Tensors) => unknown) => () => {
    const tensors = modelTensors();
    change(tensors);
    return checkpointFiles(tensors);
  };
  const file = (name: string, content: unknown) => () => ({
    ...checkpointFiles(),
    [name]: content,
  });
  const bias = 'model.layers.0.self_attn.W_pack.bias';
  const cases: [string, () => Files, string][] = [
    [
      'no config.json',
      () => without(checkpointFiles(), 'config.json'),
      'config.json: no such file; is this a checkpoint',
    ],
    [
      'no tokenizer',
      () => without(checkpointFiles(), 'tokenizer.json'),
      'tokenizer.json: no such file; training writes it',
    ],
    [
      'no card',
      () => without(checkpointFiles(), 'pediatricsgpt.json'),
      'pediatricsgpt.json: no such file; it names tasks',
    ],
    [
      'no weights',
      () => without(checkpointFiles(), 'model.safetensors'),
      'needs model.safetensors',
    ],
    ['a broken config', file('config.json', Uint8Array.of(0x7b)), 'config.json: not UTF-8 JSON'],
    ['another model', file('config.json', { ...config, architectures: ['X'] }), 'architecture X'],
    ['another tokenizer', file('tokenizer.json', { version: '2' }), 'BadTokenizer'],
    ['a card without tasks', file('pediatricsgpt.json', { ...card, tasks: [] }), 'tasks'],
    [
      'a task id with spaces',
      file('pediatricsgpt.json', { ...card, id: 'a b' }),
      'BadManifest: id',
    ],
    ['topP 0', file('generation_config.json', { top_p: 0 }), 'top_p'],
    [
      'more pieces than rows',
      file('config.json', { ...config, vocab_size: 270 }),
      'the model has 270 rows',
    ],
    [
      'a missing tensor',
      model((t) => delete t['model.norm.weight']),
      'tensor model.norm.weight is missing',
    ],
    ['a bias', model((t) => (t[bias] = f32([1], () => 0))), `tensor ${bias} has no place`],
    [
      'a wrong shape',
      model((t) => (t['model.norm.weight'] = f32([63], () => 1))),
      'is F32 [63], not F32|F16|BF16 [64]',
    ],
    [
      'a NaN',
      model((t) => t['model.layers.1.mlp.up_proj.weight']?.bytes.set([0, 0, 192, 127], 256)),
      'tensor model.layers.1.mlp.up_proj.weight, row 1: NaN',
    ],
  ];
  it.each(cases)('a checkpoint with %s', async (_, files, message) => {
    expect(await failure(run(files(), null))).toContain(message);
  });

  const adapter =
    (change: (files: Files, tensors: Tensors) => unknown, routers = true) =>
    () => {
      const files: Files = mergedAdapterFiles();
      const tensors = adapterTensors(2, routers);
      change(files, tensors);
      return { ...files, 'adapter_model.safetensors': writeSafetensors(tensors) };
    };
  const first = 'base_model.model.model.layers.0.mlp.gate_proj';
  const withConfig = (changes: Files) =>
    adapter((files) => (files['adapter_config.json'] = { ...adapterConfig('merged'), ...changes }));
  const withGates = (change: (gates: Record<string, Record<string, number[]>>) => unknown) =>
    adapter((files) => {
      const gates = taskGates();
      change(gates);
      files['task_gates.json'] = gates;
    });
  const adapterCases: [string, () => Files, string][] = [
    ['no config', adapter((f) => delete f['adapter_config.json']), 'is this an adapter folder?'],
    ['DoRA', withConfig({ use_dora: true }), 'use_dora'],
    ['another rank', withConfig({ r: 3 }), `tensor ${first}.lora_moe_A is F32 [4, 64, 2], not`],
    ['an unknown target', withConfig({ target_modules: ['q_proj'] }), 'target_modules'],
    ['a target less', withConfig({ target_modules: ['up_proj'] }), 'is no target'],
    [
      'a target more',
      withConfig({ target_modules: ['up_proj', 'o_proj'] }),
      'no lora_moe_A and lora_moe_B for layers.0.self_attn.o_proj',
    ],
    [
      'a strange tensor',
      adapter((_, t) => (t['lora_A'] = f32([1], () => 0))),
      'tensor lora_A is not known',
    ],
    [
      'one tensor twice',
      adapter((_, t) => (t[`${first}.lora_moe_A.default`] = f32([1], () => 0))),
      'are one',
    ],
    [
      'a value beyond f16',
      adapter((_, t) => t[`${first}.lora_moe_B`]?.bytes.set([0, 0, 128, 0x4f], 0)),
      `tensor ${first}.lora_moe_B, row 0: 4294967296`,
    ],
    ['no B', adapter((_, t) => delete t[`${first}.lora_moe_B`]), 'layers.0.mlp.gate_proj'],
    ['a router but no gates', adapter((f) => delete f['task_gates.json']), 'no task_gates.json'],
    [
      'routed without routers',
      () => ({
        ...routedAdapterFiles(),
        'adapter_model.safetensors': writeSafetensors(adapterTensors(1, false)),
      }),
      'has no lora_route.weight',
    ],
    ['gates of another task', withGates((g) => (g['other'] = {})), 'unknown task other'],
    ['gates for too few tasks', withGates((g) => delete g['evidiag']), 'no gates for task evidiag'],
    [
      'gates of another linear',
      withGates((g) => (g['medkqa'] = { ...g['medkqa'], 'layers.9.mlp.up_proj': [] })),
      'unknown linear layers.9.mlp.up_proj',
    ],
    [
      'too few gates',
      withGates((g) => g['medkqa']?.['layers.0.mlp.up_proj']?.pop()),
      '2 gates for 3 specific experts',
    ],
  ];
  it.each(adapterCases)('an adapter with %s', async (_, files, message) => {
    expect(await failure(run(checkpointFiles(), files()))).toContain(message);
  });

  it('a shard too small for a row', async () => {
    const text = await failure(run(checkpointFiles(), null, { shardBytes: 64 }));
    expect(text).toContain('Usage: tensor embed: one row has 80 bytes, a shard 64');
  });
});
