import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from './checkpoint.ts';
import { parseSafetensors } from '../src/format/safetensors.ts';
import { checkpointFiles, config, folderOf, values, without } from './testing.ts';
import { failure, hashes, read, run, type Files } from './testing-run.ts';

/** Models that llama.cpp's library wrote: see fixtures/make_gguf.py. */
const fixture = (name: string) =>
  new Uint8Array(readFileSync(new URL(`fixtures/gguf/${name}`, import.meta.url)));
const beside = without(without(checkpointFiles(), 'model.safetensors'), 'config.json');
const withGguf = (name: string): Files => ({ ...beside, 'model.gguf': fixture(`${name}.gguf`) });

describe.each([
  ['llama', 'Llama', 2, 8, false],
  ['qwen2', 'Qwen2', 2, 8, true],
  ['qwen3', 'Qwen3', 2, 16, false],
  ['baichuan', 'Baichuan', 4, 8, false],
] as const)('%s.gguf', (name, family, kvHeads, headDim, tied) => {
  it('becomes the package of the tensors that it stands for, byte for byte', async () => {
    const fromGguf = await run(withGguf(name), null);
    const same = await run(
      {
        ...beside,
        'model.safetensors': fixture(`${name}.safetensors`),
        'config.json': {
          ...config,
          architectures: [`${family}ForCausalLM`],
          hidden_size: 32,
          intermediate_size: 64,
          num_hidden_layers: 1,
          num_key_value_heads: kvHeads,
          head_dim: headDim,
          rope_theta: 1_000_000,
          tie_word_embeddings: tied,
        },
      },
      null,
    );
    expect(fromGguf.manifest.config).toEqual(same.manifest.config);
    expect(hashes(fromGguf.manifest, 'shard')).toEqual(hashes(same.manifest, 'shard'));
    expect(fromGguf.manifest.knownAnswer).toEqual(same.manifest.knownAnswer);
  });
});

describe('numbers that llama.cpp has rounded', () => {
  const original = (name: string, tensor: string) => {
    const found = parseSafetensors(fixture(`${name}.safetensors`)).get(tensor);
    return values(found);
  };

  it('to 4 bits stay as they are in 4 bits', async () => {
    const made = await run(withGguf('qwen2'), null);
    const down = original('qwen2', 'model.layers.0.mlp.down_proj.weight');
    expect(await read(made, 'layers.0.down')).toEqual(down);
  });

  it('to 8 bits stay as they are in 8 bits', async () => {
    const made = await run(withGguf('llama'), null);
    expect(await read(made, 'embed')).toEqual(original('llama', 'model.embed_tokens.weight'));
    expect(await read(made, 'head')).toEqual(original('llama', 'lm_head.weight'));
  });
});

describe('a GGUF checkpoint', () => {
  it('may be named by its file, and has to be where a folder has several', async () => {
    const folder = await folderOf(withGguf('qwen2'));
    await writeFile(join(folder, 'other.gguf'), fixture('llama.gguf'));
    expect(await failure(openCheckpoint(folder))).toMatch(
      /^Usage: .*model\.gguf, other\.gguf.*name/,
    );
    const checkpoint = await openCheckpoint(join(folder, 'other.gguf'));
    expect(checkpoint.config.architecture).toBe('llama');
    expect(checkpoint.files).toContain('other.gguf');
    await checkpoint.close();
    expect(await failure(openCheckpoint(join(folder, 'third.gguf')))).toMatch(/^NotFound: .*third/);
  });

  it('is named where it is broken, or lacks what stands beside it', async () => {
    const broken = { ...beside, 'a.gguf': fixture('llama.gguf').subarray(0, 900) };
    expect(await failure(run(broken, null))).toMatch(
      /BadCheckpoint: .*a\.gguf: GGUF: .*tokens has 288 entries/,
    );
    const types = { ...beside, 'a.gguf': fixture('types.gguf') };
    expect(await failure(run(types, null))).toMatch(/BadCheckpoint: .*a\.gguf/);
    const alone = { 'a.gguf': fixture('llama.gguf') };
    expect(await failure(run(alone, null))).toMatch(
      /BadCheckpoint: .*a\.gguf: GGUF: no tokenizer; .* put/,
    );
    expect(await failure(openCheckpoint(join(await folderOf({}), 'none')))).toMatch(/^NotFound/);
  });
});
