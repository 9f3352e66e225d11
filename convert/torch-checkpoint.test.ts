import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { card, checkpointFiles, config, without } from './testing.ts';
import { failure, hashes, run, type Files } from './testing-run.ts';

/** Checkpoints and adapters that PyTorch wrote: see fixtures/make_torch.py. */
const folder = new URL('fixtures/torch/', import.meta.url);
const fixtures = (...names: string[]): Files =>
  Object.fromEntries(
    names.map((name) => [name, new Uint8Array(readFileSync(new URL(name, folder)))]),
  );

const sizes = { hidden_size: 32, intermediate_size: 32, num_hidden_layers: 1 };
const others: Files = {
  ...without(checkpointFiles(), 'model.safetensors'),
  'config.json': { ...config, ...sizes },
  'pediatricsgpt.json': card,
};
const shards = readdirSync(folder).filter((name) => name.startsWith('pytorch_model'));

describe('a checkpoint in pytorch_model.bin', () => {
  it('becomes the package of the same tensors in safetensors, byte for byte', async () => {
    const torch = await run({ ...others, ...fixtures(...shards) }, null);
    const safe = await run({ ...others, ...fixtures('model.safetensors') }, null);
    expect(hashes(torch.manifest, 'shard')).toEqual(hashes(safe.manifest, 'shard'));
    expect(torch.manifest.knownAnswer).toEqual(safe.manifest.knownAnswer);
    expect(torch.manifest.provenance.checkpointSha256).toMatch(/^[0-9a-f]{64}$/);
  });

  it('is named where a shard of it is broken', async () => {
    const broken = {
      ...fixtures(...shards),
      'pytorch_model-00002-of-00002.bin': new Uint8Array(9),
    };
    expect(await failure(run({ ...others, ...broken }, null))).toMatch(
      /BadCheckpoint: .*pytorch_model-00002-of-00002\.bin: no zip archive/,
    );
  });
});
