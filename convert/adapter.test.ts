import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeSafetensors } from '../src/format/safetensors.ts';
import { runCommand } from './cli.ts';
import {
  adapterConfig,
  adapterTensors,
  checkpointFiles,
  config,
  f32,
  folderOf,
  mergedAdapterFiles,
  randomNumbers,
  tiny,
  values,
  without,
  type Tensors,
} from './testing.ts';
import { failure, hashes, read, run, type Files } from './testing-run.ts';

/** Files that PyTorch wrote: see fixtures/make_torch.py. */
const fixture = (name: string) =>
  new Uint8Array(readFileSync(new URL(`fixtures/torch/${name}`, import.meta.url)));

const moe = (tensors: Tensors, changes: Files = {}): Files => ({
  'adapter_config.json': { ...adapterConfig(), ...changes },
  'adapter_model.safetensors': writeSafetensors(tensors),
});

describe('the published adapter, without a router', () => {
  it('is read from adapter_model.bin as from safetensors', async () => {
    const sizes = { hidden_size: 32, intermediate_size: 32, num_hidden_layers: 1 };
    const base = {
      ...checkpointFiles(),
      'config.json': { ...config, ...sizes },
      'model.safetensors': fixture('model.safetensors'),
    };
    const name = 'adapter_model.safetensors';
    const safe = await run(base, { ...moe({}), [name]: fixture(name) });
    const torch = await run(base, {
      ...without(moe({}), name),
      'adapter_model.bin': fixture('adapter_model.bin'),
    });
    expect(torch.manifest.adapter).toEqual(safe.manifest.adapter);
    expect(torch.manifest.adapter).toMatchObject({ router: 'absent', mode: 'merged', experts: 4 });
    expect(hashes(torch.manifest, 'adapter')).toEqual(hashes(safe.manifest, 'adapter'));
  });

  it.each([
    ['a module weight', (name: string) => `${name}.weight`],
    ['the name of the adapter', (name: string) => `${name}.default`],
    ['both', (name: string) => `${name}.default.weight`],
    ['no prefix', (name: string) => name.replace('base_model.model.', '')],
  ])('may spell its tensors with %s', async (_, spell) => {
    const tensors = adapterTensors(2, false);
    const renamed = Object.fromEntries(Object.entries(tensors).map(([n, t]) => [spell(n), t]));
    const other = await run(checkpointFiles(), moe(renamed));
    const usual = await run(checkpointFiles(), moe(tensors));
    expect(hashes(other.manifest, 'adapter')).toEqual(hashes(usual.manifest, 'adapter'));
  });

  it('says what uniform gates mean', async () => {
    const output = await packageOutput(moe(adapterTensors(2, false)));
    expect(output).toMatch(/each of the 3 specific experts counts 1\/3 in every task/);
    expect(await packageOutput(mergedAdapterFiles())).not.toContain('specific experts');
  });

  it('is scaled by alpha over the root of the rank with rsLoRA', async () => {
    const { manifest } = await run(
      checkpointFiles(),
      moe(adapterTensors(2, false), { use_rslora: true, lora_alpha: 3 }),
    );
    const { alpha = NaN, rank = NaN } = manifest.adapter ?? {};
    expect(alpha / rank).toBeCloseTo(3 / Math.sqrt(2), 12);
  });
});

const LINEARS = ['gate_proj', 'up_proj', 'down_proj'] as const;
const plainConfig = { ...without<unknown>(adapterConfig(), 'lora_nums'), lora_alpha: 6 };

/** A [r, K] and B [N, r] for each linear, as PEFT saves LoRA. */
function plainTensors(rank: number): Tensors {
  const random = randomNumbers(8);
  const tensors: Tensors = {};
  for (let i = 0; i < tiny.layers; i++) {
    for (const linear of LINEARS) {
      const down = linear === 'down_proj';
      const [inputs, outputs] = down ? [tiny.mlpWidth, tiny.width] : [tiny.width, tiny.mlpWidth];
      const prefix = `base_model.model.model.layers.${i}.mlp.${linear}`;
      tensors[`${prefix}.lora_A.weight`] = f32([rank, inputs], () => 0.3 * random());
      tensors[`${prefix}.lora_B.weight`] = f32([outputs, rank], () => 0.3 * random());
    }
  }
  return tensors;
}

const plain = (rank: number, changes: Files = {}): Files => ({
  'adapter_config.json': { ...plainConfig, r: rank, ...changes },
  'adapter_model.safetensors': writeSafetensors(plainTensors(rank)),
});

/** Experts [E, K, R] and [E, R, N] whose sum is plain LoRA of rank E*R. */
function asExperts(tensors: Tensors, experts: number, rank: number): Tensors {
  const made: Tensors = {};
  for (const [name, tensor] of Object.entries(tensors)) {
    const [rows = 0, columns = 0] = tensor.shape;
    const file = values(tensor);
    if (name.includes('lora_A')) {
      made[name.replace('lora_A.weight', 'lora_moe_A')] = f32([experts, columns, rank], (i) => {
        const [j, k] = [i % rank, Math.floor(i / rank) % columns];
        const expert = Math.floor(i / (rank * columns));
        return file[(expert * rank + j) * columns + k] ?? NaN;
      });
    } else {
      made[name.replace('lora_B.weight', 'lora_moe_B')] = f32([experts, rank, rows], (i) => {
        return file[(i % rows) * columns + Math.floor(i / rows)] ?? NaN;
      });
    }
  }
  return made;
}

describe('plain LoRA', () => {
  it('is the sum of two experts of half its rank, one of them with a gate of 1', async () => {
    const single = await run(checkpointFiles(), plain(4));
    const experts = asExperts(plainTensors(4), 2, 2);
    // alpha / r has to be the same: 6 / 4 = 3 / 2.
    const pair = await run(checkpointFiles(), moe(experts, { lora_nums: 2, r: 2, lora_alpha: 3 }));
    expect(single.manifest.adapter).toEqual(pair.manifest.adapter);
    expect(hashes(single.manifest, 'adapter')).toEqual(hashes(pair.manifest, 'adapter'));
    expect(single.manifest.knownAnswer).toEqual(pair.manifest.knownAnswer);
    const none = await run(checkpointFiles(), null);
    expect(single.manifest.knownAnswer).not.toEqual(none.manifest.knownAnswer);
    expect(await packageOutput(plain(4))).not.toContain('specific experts');
  });

  it('of an odd rank has zeros where the second half is shorter', async () => {
    const made = await run(checkpointFiles(), plain(3, { use_rslora: true }));
    const { alpha = NaN, rank = NaN } = made.manifest.adapter ?? {};
    expect([rank, alpha / rank]).toEqual([2, expect.closeTo(6 / Math.sqrt(3), 12)]);
    const a = await read(made, 'adapter.layers.1.down_proj.a'); // [4, K]
    const b = await read(made, 'adapter.layers.1.down_proj.b'); // [N, 4]
    const prefix = 'base_model.model.model.layers.1.mlp.down_proj';
    const file = plainTensors(3);
    const [fileA, fileB] = [file[`${prefix}.lora_A.weight`], file[`${prefix}.lora_B.weight`]];
    values(fileA).forEach((value, i) => expect(a[i]).toBeCloseTo(value, 3));
    expect([...a.subarray(3 * tiny.mlpWidth)].every((value) => value === 0)).toBe(true);
    values(fileB).forEach((value, i) => {
      expect(b[Math.floor(i / 3) * 4 + (i % 3)]).toBeCloseTo(value, 3);
    });
    expect(b.filter((_, i) => i % 4 === 3).every((value) => value === 0)).toBe(true);
  });

  it('may adapt every linear without naming them', async () => {
    const text = await failure(run(checkpointFiles(), plain(4, { target_modules: 'all-linear' })));
    expect(text).toContain('no lora_A and lora_B for layers.0.self_attn.W_pack');
  });

  it.each([
    [
      'ranks of its own',
      { rank_pattern: { up_proj: 8 } },
      /rank_pattern.*: one rank and one alpha/,
    ],
    ['scales of its own', { alpha_pattern: { up_proj: 8 } }, /alpha_pattern.*: one rank and one/],
    ['a changed base', { init_lora_weights: 'pissa' }, /init_lora_weights/],
    ['some layers only', { layers_to_transform: [1] }, /layers_to_transform/],
    ['other modules', { modules_to_save: ['embed_tokens'] }, /modules_to_save: must be empty/],
    ['a bias', { lora_bias: true }, /lora_bias/],
    ['routers', { mode: 'routed' }, /mode is routed, but there is no lora_nums/],
    ['experts announced', { lora_nums: 4 }, /lora_A\.weight is not known in a MoE-Adapter; plain/],
    ['another rank', { r: 5 }, /lora_A\.weight is F32 \[4, 64\], not .* \[5, 64\]/],
  ])('with %s is refused', async (_, changes, message) => {
    expect(await failure(run(checkpointFiles(), plain(4, changes)))).toMatch(message);
  });

  it('is refused with gates, and experts are without lora_nums', async () => {
    const gates = { ...plain(4), 'task_gates.json': {} };
    expect(await failure(run(checkpointFiles(), gates))).toContain('beside plain LoRA');
    const experts = { ...mergedAdapterFiles(), 'adapter_config.json': plainConfig };
    expect(await failure(run(checkpointFiles(), experts))).toMatch(
      /lora_moe_A is not known in plain LoRA; experts need lora_nums/,
    );
  });
});

/** What `convert package` prints. */
async function packageOutput(adapter: Files): Promise<string> {
  let out = '';
  const [checkpoint, folder] = [await folderOf(checkpointFiles()), await folderOf(adapter)];
  const target = join(await folderOf({}), 'package');
  const code = await runCommand([checkpoint, '--adapter', folder, '--out', target], {
    out: (text) => (out += text),
    error: (text) => (out += text),
    signal: new AbortController().signal,
  });
  expect(code).toBe(0);
  return out;
}
