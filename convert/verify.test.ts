import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sha256 } from '../src/format/hash.ts';
import type { Manifest } from '../src/format/manifest.ts';
import { inspect } from './inspect.ts';
import { failure, run, type Run } from './testing-run.ts';
import { card, checkpointFiles, mergedAdapterFiles, routedAdapterFiles } from './testing.ts';
import { verify } from './verify.ts';

const packed = (): Promise<Run> => run(checkpointFiles(), mergedAdapterFiles());

/** What verify finds wrong. */
async function wrong(folder: string, recompute = false): Promise<string[]> {
  const findings = await verify(folder, { recompute });
  return findings.filter(({ ok }) => !ok).map(({ what }) => what);
}

/** Changes a file of a package together with its hash: damage before the hash was taken. */
async function alter({ manifest, out }: Run, name: string, change: (bytes: Buffer) => void) {
  const bytes = await readFile(join(out, name));
  change(bytes);
  await writeFile(join(out, name), bytes);
  const digest = await sha256(new Uint8Array(bytes));
  const files = manifest.files.map((file) =>
    file.name === name ? { ...file, sha256: digest } : file,
  );
  await save({ out, manifest: { ...manifest, files } });
}

async function save({ out, manifest }: Run): Promise<void> {
  await writeFile(join(out, 'manifest.json'), JSON.stringify(manifest));
}

function blockOf(manifest: Manifest, name: string) {
  const block = manifest.tensors.find((tensor) => tensor.name === name)?.blocks[0];
  if (block === undefined) throw new Error(`no tensor ${name}`);
  return block;
}

describe('verify', () => {
  it('finds nothing in whole packages, and the same answers again', async () => {
    expect(await wrong((await packed()).out, true)).toEqual([]);
    expect(await wrong((await run(checkpointFiles(), routedAdapterFiles())).out, true)).toEqual([]);
  });

  it('finds any flipped bit of any file', async () => {
    const { out, manifest } = await packed();
    const place = fc
      .constantFrom(...manifest.files)
      .chain(({ name, bytes }) => fc.tuple(fc.constant(name), fc.nat(bytes - 1), fc.nat(7)));
    await fc.assert(
      fc.asyncProperty(place, async ([name, at, bit]) => {
        const path = join(out, name);
        const bytes = await readFile(path);
        const flip = () => bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << bit), at);
        flip();
        await writeFile(path, bytes);
        const found = await wrong(out);
        flip();
        await writeFile(path, bytes);
        expect(found).toEqual([`${path}: another SHA-256; copy the package again`]);
      }),
      { numRuns: 40 },
    );
    expect(await wrong(out)).toEqual([]);
  });

  it('finds a short file, a missing one and one too many, all at once', async () => {
    const { out } = await packed();
    await truncate(join(out, 'shard-00000.bin'), 1000);
    await rm(join(out, 'tokenizer.json'));
    await writeFile(join(out, 'shard-00009.bin'), 'x');
    const found = await wrong(out);
    expect(found).toHaveLength(3);
    expect(found.join('\n')).toMatch(/tokenizer.json: no such file/);
    expect(found.join('\n')).toMatch(/shard-00000.bin: 1000 bytes, the manifest says/);
    expect(found.join('\n')).toMatch(/shard-00009.bin: not listed/);
  });

  it('finds a scale that is not finite', async () => {
    const one = await packed();
    const { file, offset, rows } = blockOf(one.manifest, 'layers.1.down');
    await alter(one, file, (bytes) => bytes.writeUInt16LE(0x7c00, offset + (rows[1] * 96) / 2 + 4));
    expect(await wrong(one.out)).toEqual([
      'shard-00000.bin: tensor layers.1.down: scale 2 is not finite',
    ]);
  });

  it('finds norms and adapters that are not finite', async () => {
    const one = await packed();
    const { file, offset } = blockOf(one.manifest, 'norm');
    await alter(one, file, (bytes) => bytes.writeFloatLE(NaN, offset + 8));
    expect((await wrong(one.out))[0]).toContain('tensor norm: value 2 is not finite');
    const two = await packed();
    const a = blockOf(two.manifest, 'adapter.layers.0.up_proj.a');
    await alter(two, a.file, (bytes) => bytes.writeUInt16LE(0xfc00, a.offset));
    expect((await wrong(two.out))[0]).toContain('up_proj.a: value 0 is not finite');
  });

  it('finds a tokenizer that cannot be read', async () => {
    const one = await packed();
    await alter(one, 'tokenizer.json', (bytes) => bytes.write('{"version": "2.0"', 0));
    expect((await wrong(one.out))[0]).toContain('tokenizer.json');
  });

  it('reports a package without known answers, or without those of a task', async () => {
    const { out, manifest } = await packed();
    const { knownAnswer } = manifest;
    const { medkqa } = knownAnswer?.tasks ?? {};
    if (knownAnswer === null || medkqa === undefined) throw new Error('no known answers');
    await save({ out, manifest: { ...manifest, knownAnswer: null } });
    expect(await wrong(out)).toEqual([expect.stringContaining('known answers: none; give')]);
    await save({
      out,
      manifest: { ...manifest, knownAnswer: { ...knownAnswer, tasks: { medkqa } } },
    });
    expect(await wrong(out)).toEqual(['known answers: none for evidiag']);
  });

  it('finds answers that other weights gave', async () => {
    const one = await packed();
    const { file, offset } = blockOf(one.manifest, 'layers.0.gate_up');
    await alter(one, file, (bytes) => bytes.fill(0x5a, offset, offset + 320));
    expect(await wrong(one.out)).toEqual([]);
    expect(await wrong(one.out, true)).toEqual([expect.stringMatching(/^known answers: medkqa/)]);
  });

  it('does not go on without a manifest', async () => {
    const { out } = await packed();
    await writeFile(join(out, 'manifest.json'), '{}');
    expect(await failure(verify(out, { recompute: false }))).toMatch(/^BadManifest/);
    await rm(join(out, 'manifest.json'));
    expect(await failure(verify(out, { recompute: false }))).toContain('conversion did not end');
  });
});

describe('inspect', () => {
  it('names model, licence, sizes, adapter, tasks, stages and files', async () => {
    const { manifest } = await packed();
    const text = inspect(manifest).join('\n');
    for (const part of [
      'tiny-random',
      'MIT',
      '2 layers, width 64',
      '106,816 parameters',
      'bits per weight',
      'merged, router trained, 4 experts of rank 2',
      card.tasks[1]?.id,
      'cpt',
      '1,000 tokens',
      'valid.loss',
      'shard-00000.bin',
      manifest.provenance.checkpointSha256,
    ]) {
      expect(text).toContain(part);
    }
  });

  it('says what a package lacks', async () => {
    const { manifest } = await run(checkpointFiles(), null);
    const text = inspect({ ...manifest, knownAnswer: null }).join('\n');
    expect(text).toMatch(/adapter\S* +none/);
    expect(text).toContain('no known answers');
  });
});
