import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { writeSafetensors } from '../src/format/safetensors.ts';
import { Tokenizer } from '../src/text/tokenizer.ts';
import { readManifest } from './reader.ts';
import {
  adapterConfig,
  adapterTensors,
  card,
  checkpointFiles,
  config,
  EXPERTS,
  f32,
  mergedAdapterFiles,
  modelTensors,
  narrowed,
  RANK,
  routedAdapterFiles,
  taskGates,
  TASKS,
  tiny,
  values,
  without,
  type Tensors,
} from './testing.ts';
import { failure, hashes, read, run, type Run } from './testing-run.ts';
import { verify } from './verify.ts';

let whole: Run;
beforeAll(async () => {
  whole = await run(checkpointFiles(), mergedAdapterFiles());
});

describe('a package', () => {
  it('is what its manifest on disk says', async () => {
    expect(await readManifest(whole.out)).toEqual(whole.manifest);
    const listed = whole.manifest.files.map(({ name }) => name);
    expect((await readdir(whole.out)).sort()).toEqual([...listed, 'manifest.json'].sort());
    expect(whole.manifest.quantization.origin).toBe('convert');
  });

  it('holds the weights, as near as its bits allow', async () => {
    const tensors = modelTensors();
    const close = async (name: string, sources: string[], tolerance: number) => {
      const stored = await read(whole, name);
      const original = sources.flatMap((source) => [...values(tensors[source])]);
      expect(stored.length).toBe(original.length);
      const most = Math.max(...original.map(Math.abs));
      const worst = Math.max(...original.map((value, i) => Math.abs(value - (stored[i] ?? NaN))));
      expect(worst / most).toBeLessThan(tolerance);
    };
    await close('norm', ['model.norm.weight'], 1e-12);
    await close('layers.1.mlp_norm', ['model.layers.1.post_attention_layernorm.weight'], 1e-12);
    await close('layers.0.attention_norm', ['model.layers.0.input_layernorm.weight'], 1e-12);
    await close('embed', ['model.embed_tokens.weight'], 0.5 / 126);
    await close('layers.1.qkv', ['model.layers.1.self_attn.W_pack.weight'], 1.01 / 7);
    await close('layers.0.attention_out', ['model.layers.0.self_attn.o_proj.weight'], 1.01 / 7);
    const mlp = 'model.layers.1.mlp';
    await close('layers.1.gate_up', [`${mlp}.gate_proj.weight`, `${mlp}.up_proj.weight`], 1.01 / 7);
    await close('layers.1.down', [`${mlp}.down_proj.weight`], 1.01 / 7);
  });

  it('has head rows of unit length', async () => {
    const head = await read(whole, 'head');
    for (let row = 0; row < tiny.vocab; row++) {
      const squares = head.subarray(row * tiny.width, (row + 1) * tiny.width).map((x) => x * x);
      expect(squares.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 1.5);
    }
  });

  it('holds the adapter transposed to A [E*r, K] and B [N, E*r]', async () => {
    const tensors = adapterTensors(2, true);
    const prefix = 'base_model.model.model.layers.1.mlp.down_proj';
    const a = await read(whole, 'adapter.layers.1.down_proj.a');
    const b = await read(whole, 'adapter.layers.1.down_proj.b');
    const fileA = values(tensors[`${prefix}.lora_moe_A`]);
    const fileB = values(tensors[`${prefix}.lora_moe_B`]);
    for (let expert = 0; expert < EXPERTS; expert++) {
      for (let j = 0; j < RANK; j++) {
        const row = expert * RANK + j;
        for (let k = 0; k < tiny.mlpWidth; k++) {
          const original = fileA[(expert * tiny.mlpWidth + k) * RANK + j] ?? NaN;
          expect(Math.abs((a[row * tiny.mlpWidth + k] ?? NaN) - original)).toBeLessThan(1e-4);
        }
        for (let n = 0; n < tiny.width; n++) {
          const original = fileB[row * tiny.width + n] ?? NaN;
          expect(Math.abs((b[n * EXPERTS * RANK + row] ?? NaN) - original)).toBeLessThan(1e-4);
        }
      }
    }
    const entry = whole.manifest.adapter?.linears[4];
    expect(entry).toMatchObject({ linear: 'layers.1.mlp.up_proj', tensor: 'layers.1.gate_up' });
    expect(entry?.rows).toEqual([tiny.mlpWidth, 2 * tiny.mlpWidth]);
    expect(whole.manifest.adapter?.gates['evidiag']?.[4]).toEqual(
      taskGates()['evidiag']?.['layers.1.mlp.up_proj'],
    );
  });

  it('has the same base bytes under any adapter, and another adapter in other files', async () => {
    const second = await run(checkpointFiles(), mergedAdapterFiles(3));
    const routed = await run(checkpointFiles(), routedAdapterFiles());
    const none = await run(checkpointFiles(), null);
    for (const other of [second, routed, none]) {
      expect(hashes(other.manifest, 'shard')).toEqual(hashes(whole.manifest, 'shard'));
    }
    expect(hashes(second.manifest, 'adapter')).not.toEqual(hashes(whole.manifest, 'adapter'));
    expect(none.manifest.adapter).toBeNull();
    expect(routed.manifest.adapter).toMatchObject({ mode: 'routed', router: 'trained', gates: {} });
    expect(await read(routed, 'adapter.layers.0.up_proj.router')).toHaveLength(3 * tiny.width);
  });

  it('comes out the same from shards and, but for rounding, from f16 and bf16', async () => {
    const tensors = modelTensors();
    const names = Object.keys(tensors);
    const part = (from: number, to: number): Tensors =>
      Object.fromEntries(Object.entries(tensors).slice(from, to));
    const sharded = await run(
      {
        ...without(checkpointFiles(), 'model.safetensors'),
        'model-00001-of-00002.safetensors': writeSafetensors(part(0, 6)),
        'model-00002-of-00002.safetensors': writeSafetensors(part(6, names.length)),
        'model.safetensors.index.json': {
          weight_map: Object.fromEntries(
            names.map((name, i) => [name, `model-0000${i < 6 ? 1 : 2}-of-00002.safetensors`]),
          ),
        },
      },
      mergedAdapterFiles(),
    );
    expect(hashes(sharded.manifest, 'shard')).toEqual(hashes(whole.manifest, 'shard'));
    const embed = await read(whole, 'embed');
    for (const dtype of ['F16', 'BF16'] as const) {
      const narrow = await run(checkpointFiles(narrowed(tensors, dtype)), null);
      const other = await read(narrow, 'embed');
      expect(Math.max(...other.map((x, i) => Math.abs(x - (embed[i] ?? NaN))))).toBeLessThan(0.02);
    }
  });

  it('is cut into row blocks where a tensor exceeds a shard, and means the same', async () => {
    const small = await run(checkpointFiles(), mergedAdapterFiles(), { shardBytes: 2500 });
    const cut = small.manifest.tensors.find(({ name }) => name === 'layers.0.gate_up');
    expect(cut?.blocks.length).toBeGreaterThan(2);
    for (const { bytes } of small.manifest.files.slice(1)) expect(bytes).toBeLessThanOrEqual(2500);
    for (const { name } of whole.manifest.tensors) {
      expect(await read(small, name)).toEqual(await read(whole, name));
    }
    expect(small.manifest.knownAnswer).toEqual(whole.manifest.knownAnswer);
  });

  it('takes uniform gates and says so where the adapter has neither router nor gates', async () => {
    const { manifest } = await run(checkpointFiles(), {
      'adapter_config.json': { ...adapterConfig(), use_dora: false, alpha_pattern: {} },
      'adapter_model.safetensors': writeSafetensors(adapterTensors(2, false)),
    });
    expect(manifest.adapter).toMatchObject({ mode: 'merged', router: 'absent' });
    expect(manifest.adapter?.gates['medkqa']?.[0]).toEqual([1 / 3, 1 / 3, 1 / 3]);
    expect(Object.keys(manifest.adapter?.gates ?? {})).toEqual([...TASKS]);
  });

  it('reads a router under each of its names, and takes it for routed where nothing is said', async () => {
    const renamed = Object.fromEntries(
      Object.entries(adapterTensors(2, true)).map(([name, tensor]) => [
        name
          .replace('lora_route.weight', 'lora_route.default.weight')
          .replace(/_([AB])$/, '_$1.default'),
        tensor,
      ]),
    );
    const { manifest } = await run(checkpointFiles(), {
      'adapter_config.json': adapterConfig(),
      'adapter_model.safetensors': writeSafetensors(renamed),
    });
    const usual = await run(checkpointFiles(), routedAdapterFiles());
    expect(hashes(manifest, 'adapter')).toEqual(hashes(usual.manifest, 'adapter'));
    expect(manifest.adapter?.mode).toBe('routed');
  });

  it('takes a byte-level tokenizer, and special tokens in its chat template', async () => {
    const file = new URL('../src/text/testdata/byte-qwen2.json', import.meta.url);
    const tokenizer = new Uint8Array(readFileSync(file));
    const [vocab, width] = [720, tiny.width];
    const table = f32([vocab, width], (i) => Math.sin(i * i));
    const made = await run(
      {
        ...checkpointFiles({
          ...modelTensors(),
          'model.embed_tokens.weight': table,
          'lm_head.weight': table,
        }),
        'config.json': { ...config, vocab_size: vocab },
        'tokenizer.json': tokenizer,
        'pediatricsgpt.json': {
          ...card,
          template: { ...card.template, user: { prefix: '<|im_start|>', suffix: '<|im_end|>' } },
        },
      },
      null,
    );
    const { tokens } = made.manifest.knownAnswer?.tasks['medkqa'] ?? { tokens: [] };
    expect([tokens[0], tokens.at(-1)]).toEqual([701, 702]);
    expect(Tokenizer.fromBytes(tokenizer).decode(tokens)).toBe('宝宝发烧怎么办');
    const findings = await verify(made.out, { recompute: true });
    expect(findings.filter(({ ok }) => !ok)).toEqual([]);
  });

  it('takes a SentencePiece model where there is no tokenizer.json, and names it where it is bad', async () => {
    const file = new URL('fixtures/sentencepiece/plain.model', import.meta.url);
    const model = new Uint8Array(readFileSync(file));
    const [vocab, width] = [2000, tiny.width];
    const table = f32([vocab, width], (i) => Math.sin(i * i));
    const files = {
      ...without(
        checkpointFiles({
          ...modelTensors(),
          'model.embed_tokens.weight': table,
          'lm_head.weight': table,
        }),
        'tokenizer.json',
      ),
      'config.json': { ...config, vocab_size: vocab },
      'tokenizer.model': model,
    };
    const made = await run(files, null);
    const tokenizer = Tokenizer.fromBytes(await readFile(join(made.out, 'tokenizer.json')));
    const { tokens } = made.manifest.knownAnswer?.tasks['medkqa'] ?? { tokens: [] };
    expect(tokenizer.decode(tokens)).toBe('Human: 宝宝发烧怎么办\nAssist'); // 16 tokens
    const findings = await verify(made.out, { recompute: true });
    expect(findings.filter(({ ok }) => !ok)).toEqual([]);

    const broken = { ...files, 'tokenizer.model': model.slice(0, 9001) };
    expect(await failure(run(broken, null))).toMatch(
      /^BadTokenizer: .*tokenizer\.model: not a SentencePiece model/,
    );
  });

  it('has no known answers where the checkpoint names no prompts', async () => {
    const silent = without<unknown>(card, 'known_answer_prompts');
    const { manifest } = await run({ ...checkpointFiles(), 'pediatricsgpt.json': silent }, null);
    expect(manifest.knownAnswer).toBeNull();
  });
});
