import { generateKeyPairSync } from 'node:crypto';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { runCommand } from './cli.ts';
import { diff } from './diff.ts';
import { estimate } from './estimate.ts';
import { mergeExpert } from './merge-expert.ts';
import { readManifest } from './reader.ts';
import {
  adapterConfig,
  card,
  checkpointFiles,
  config,
  folderOf,
  mergedAdapterFiles,
  modelTensors,
  routedAdapterFiles,
} from './testing.ts';
import { failure, run, type Run } from './testing-run.ts';
import { verify } from './verify.ts';

async function command(...args: string[]) {
  let [out, error] = ['', ''];
  const code = await runCommand(args, {
    out: (text) => (out += text),
    error: (text) => (error += text),
    signal: new AbortController().signal,
  });
  return { code, out: stripVTControlCharacters(out), error: stripVTControlCharacters(error) };
}

let first: Run;
beforeAll(async () => {
  first = await run(checkpointFiles(), mergedAdapterFiles());
});

const copyOf = async ({ out }: Run): Promise<string> => {
  const copy = join(await folderOf({}), 'copy');
  await cp(out, copy, { recursive: true });
  return copy;
};

describe('merge-expert', () => {
  it.each([
    ['another merged adapter', mergedAdapterFiles(3)],
    ['a routed one', routedAdapterFiles(4)],
  ])('with %s writes what convert would have written', async (_, files) => {
    const out = join(await folderOf({}), 'package');
    const adapter = await folderOf(files);
    const merged = await mergeExpert({ package: first.out, adapter, out, shardBytes: 1 << 24 });
    const whole = await run(checkpointFiles(), files);
    expect(merged).toEqual(whole.manifest);
    for (const { name } of [...merged.files, { name: 'manifest.json' }]) {
      expect(await readFile(join(out, name)), name).toEqual(await readFile(join(whole.out, name)));
    }
    expect(merged.knownAnswer).not.toEqual(first.manifest.knownAnswer);
  });

  it('adds one to a package without, and may replace its own package, signature and all', async () => {
    const none = await run(checkpointFiles(), null);
    await writeFile(join(none.out, 'manifest.sig'), 'old');
    await writeFile(join(none.out, 'README.md'), 'kept');
    const adapter = await folderOf(mergedAdapterFiles());
    const result = await command('merge-expert', none.out, '--adapter', adapter, '--out', none.out);
    expect(result).toMatchObject({ code: 0, error: '' });
    expect(result.out).toContain('1 of 3 files are new');
    expect(await readManifest(none.out)).toEqual(first.manifest);
    const findings = await verify(none.out, { recompute: true });
    expect(findings.filter(({ ok }) => !ok)).toEqual([]);
    expect(await readFile(join(none.out, 'README.md'), 'utf8')).toBe('kept');
    await expect(readFile(join(none.out, 'manifest.sig'))).rejects.toThrow('ENOENT');
  });

  it('refuses a base that is not what its manifest says', async () => {
    const broken = await copyOf(first);
    const shard = join(broken, 'shard-00000.bin');
    const bytes = await readFile(shard);
    bytes[5] = (bytes[5] ?? 0) ^ 1;
    await writeFile(shard, bytes);
    const adapter = await folderOf(mergedAdapterFiles(3));
    const out = join(await folderOf({}), 'package');
    const merge = mergeExpert({ package: broken, adapter, out, shardBytes: 1 << 24 });
    expect(await failure(merge)).toMatch(/^ShardCorrupt: .*shard-00000\.bin/);
    await expect(readManifest(out)).rejects.toThrow('no such file');
  });
});

describe('diff', () => {
  it('finds nothing in a copy, nor in other cuts of the same numbers', async () => {
    expect(await diff(first.out, await copyOf(first))).toEqual([]);
    const cut = await run(checkpointFiles(), mergedAdapterFiles(), { shardBytes: 2500 });
    expect(await diff(first.out, cut.out)).toEqual([]);
    expect(await command('diff', first.out, cut.out)).toMatchObject({
      code: 0,
      out: 'no difference\n',
    });
  });

  it('tells fields, tensors and tokenizers apart, and ends with 1', async () => {
    const tensors = modelTensors();
    const down = tensors['model.layers.1.mlp.down_proj.weight'];
    down?.bytes.fill(0, 0, 4 * 96); // the first row
    const other = await run(
      {
        ...checkpointFiles(tensors),
        'pediatricsgpt.json': { ...card, licence: 'Apache-2.0' },
      },
      {
        ...mergedAdapterFiles(),
        'adapter_config.json': { ...adapterConfig('merged'), lora_alpha: 8 },
      },
    );
    const { code, out } = await command('diff', first.out, other.out);
    expect(code).toBe(1);
    expect(out).toContain('licence: "MIT" -> "Apache-2.0"');
    expect(out).toContain('adapter.alpha: 4 -> 8');
    expect(out).toMatch(/layers\.1\.down: (9[0-6]|8\d) of 6144 values differ, by .* % of its norm/);
    expect(out).not.toContain('layers.0.down');
    expect(out).toMatch(/knownAnswer: \d+ more differences/);
  });

  it('tells tensors that only one of them has', async () => {
    const routed = await run(checkpointFiles(), routedAdapterFiles());
    const lines = await diff(first.out, routed.out);
    expect(lines).toContain('adapter.layers.0.up_proj.router: in the second only');
    expect(lines).toContain('adapter.mode: "merged" -> "routed"');
  });
});

describe('a signature', () => {
  const pems = (type: 'ed25519' | 'x25519') => {
    const { privateKey, publicKey } = generateKeyPairSync(type as 'ed25519');
    return {
      'private.pem': new TextEncoder().encode(
        privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
      ),
      'public.pem': new TextEncoder().encode(
        publicKey.export({ format: 'pem', type: 'spki' }).toString(),
      ),
    };
  };

  it('is by one key over the bytes of the manifest as they are', async () => {
    const folder = await copyOf(first);
    const keys = await folderOf(pems('ed25519'));
    const others = await folderOf(pems('ed25519'));
    const check = (key: string) =>
      command('verify', folder, '--public-key', join(key, 'public.pem'));
    const unsigned = await check(keys);
    expect(unsigned).toMatchObject({ code: 1 });
    expect(unsigned.error).toMatch(/NotFound: .*manifest\.sig: no such file; .* not signed/);
    const signed = await command('sign', folder, '--key', join(keys, 'private.pem'));
    expect(signed).toMatchObject({ code: 0, error: '' });
    const good = await check(keys);
    expect(good.code).toBe(0);
    const key = /with key ([0-9a-f]{32})/.exec(signed.out)?.[1];
    expect(good.out).toContain(`ok  manifest.sig: signed by key ${key ?? 'none'}`);
    expect((await check(others)).code).toBe(1);
    const path = join(folder, 'manifest.json');
    await writeFile(path, `${await readFile(path, 'utf8')} `); // the same manifest, a byte more
    const changed = await check(keys);
    expect(changed.code).toBe(1);
    expect(changed.out).toContain('BAD manifest.sig: not by key');
  });

  it.each([
    ['x25519', 'private.pem', 2, /^.*a key for x25519, not for ed25519/],
    ['ed25519', 'public.pem', 2, /^.*no private key in PEM without a password/],
    ['ed25519', 'none.pem', 1, /^NotFound: .*openssl genpkey/],
  ] as const)('cannot be made with a %s key in %s', async (type, name, code, message) => {
    const keys = await folderOf(pems(type));
    const result = await command('sign', first.out, '--key', join(keys, name));
    expect(result.code).toBe(code);
    expect(result.error).toMatch(message);
  });

  it('that is damaged is a finding', async () => {
    const folder = await copyOf(first);
    const keys = await folderOf(pems('ed25519'));
    await writeFile(join(folder, 'manifest.sig'), 'AAAA\n');
    const result = await command('verify', folder, '--public-key', join(keys, 'public.pem'));
    expect(result.out).toContain('BAD manifest.sig: no signature of 64 bytes');
  });
});

describe('estimate', () => {
  const bytesOf = ({ manifest }: Run, stem: string) =>
    manifest.files
      .filter(({ name }) => name.startsWith(stem))
      .reduce((sum, { bytes }) => sum + bytes, 0);

  it('says what the files will have, from the config files alone', async () => {
    const checkpoint = await folderOf({ 'config.json': config });
    const adapter = await folderOf({ 'adapter_config.json': adapterConfig('routed') });
    const found = await estimate(checkpoint, adapter, 2);
    const routed = await run(checkpointFiles(), routedAdapterFiles());
    const [base, extra] = [bytesOf(routed, 'shard'), bytesOf(routed, 'adapter')];
    expect(Math.abs(found.baseBytes - base) / base).toBeLessThan(0.01);
    expect(Math.abs(found.adapterBytes - extra) / extra).toBeLessThan(0.1);
    // Keys and values: 2 of 2 layers, 64 positions, 4 heads of 16.
    expect(found.cacheBytes).toEqual({ f16: 2 * 16_384, f32: 4 * 16_384 });
    expect(found.parameters).toBe(
      Object.values(modelTensors()).reduce((sum, { bytes }) => sum + bytes.length / 4, 0),
    );
    expect(found.seconds.quantize).toBeGreaterThan(0);
    expect((await estimate(checkpoint, null, 0)).seconds.knownAnswer).toBe(0);
  });

  it('is printed for a model of billions before its weights are there', async () => {
    const large = {
      ...config,
      vocab_size: 125_696,
      hidden_size: 4096,
      intermediate_size: 11_008,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      max_position_embeddings: 4096,
      model_max_length: 4096,
    };
    const checkpoint = await folderOf({ 'config.json': large });
    const { code, out } = await command('estimate', checkpoint);
    expect(code).toBe(0);
    expect(out).toContain('7,505,973,248 parameters');
    expect(out).toMatch(/disk {3}4\.\d\d GB/);
    expect(out).toMatch(/2\.15 GB of keys and values/);
    expect(out).toMatch(/about \d+ minutes/);
    expect(await command('estimate', checkpoint, '--tasks', 'x')).toMatchObject({ code: 2 });
  });

  it.each(['package', 'verify', 'inspect', 'diff', 'sign', 'merge-expert', 'estimate'])(
    'has examples in its help, as has %s',
    async (name) => {
      const { code, out } = await command(name, '--help');
      expect(code).toBe(0);
      expect(out).toContain('Examples:\n  npm run convert -- ');
    },
  );
});
