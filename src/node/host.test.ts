import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { sha256 } from '../format/hash.ts';
import { parseManifest, tensorByName } from '../format/layout.ts';
import type { LoadProgress, Turn } from '../worker/api.ts';
import { Host } from './host.ts';
import { parseOptions, type AskOptions } from './options.ts';

/** The real engine on this machine's driver, with the tiny package of the tests. */

vi.setConfig({ testTimeout: 280_000, hookTimeout: 280_000 });
const TINY = fileURLToPath(new URL('../../e2e/fixtures/tiny', import.meta.url));

function options(...args: string[]): AskOptions {
  const parsed = parseOptions([
    '--package',
    TINY,
    '--greedy',
    '--no-calibrate',
    '--max-tokens',
    '12',
    ...args,
  ]);
  if (parsed === null) throw new Error('only help was asked for');
  return parsed;
}

const silent = (): void => undefined;
const running = new AbortController().signal;

describe('a loaded package', () => {
  const seen: LoadProgress[] = [];
  let host: Host;
  beforeAll(async () => {
    host = await Host.open(options(), (progress) => seen.push(progress));
  });
  afterAll(() => host.close());

  it('has passed its known-answer test and says how well', () => {
    const { selfTest, tasks } = host.info;
    expect(selfTest?.maxLogitDifference).toBeLessThanOrEqual(selfTest?.tolerance ?? 0);
    expect(tasks.map(({ id }) => id)).toEqual(['medkqa', 'evidiag', 'trerecom']);
  });

  it('has reported manifest, upload to the last byte, and self-test', () => {
    expect(seen[0]?.phase).toBe('manifest');
    const upload = seen.filter(({ phase }) => phase === 'upload').at(-1);
    expect(upload?.bytesDone).toBe(upload?.bytesTotal);
    expect(seen.at(-1)?.phase).toBe('self-test');
  });

  it('gives the same second answer with and without the KV cache of the first', async () => {
    const ask = (task: string, turns: readonly Turn[]) =>
      host.answer(task, turns, 1, silent, running);
    const first = await ask('medkqa', [{ role: 'user', text: '宝宝发烧怎么办？' }]);
    const turns: Turn[] = [{ role: 'user', text: '宝宝发烧怎么办？' }];
    turns.push({ role: 'assistant', text: first.text }, { role: 'user', text: '还要注意什么？' });
    const reusing = await ask('medkqa', turns);
    await ask('evidiag', [{ role: 'user', text: '咳嗽' }]); // empties the cache
    const fresh = await ask('medkqa', turns);
    expect(reusing.reusedTokens).toBeGreaterThan(0);
    expect(fresh.reusedTokens).toBe(0);
    expect(reusing.tokens).toEqual(fresh.tokens);
    expect(reusing.tokens.length).toBeGreaterThan(0);
  });
});

it('says the same on the CPU', async () => {
  const turns = [{ role: 'user', text: '宝宝发烧怎么办？' }] as const;
  const said: (readonly number[])[] = [];
  for (const backend of ['webgpu', 'cpu'] as const) {
    const host = await Host.open(options('--backend', backend), silent);
    expect(host.info.backend).toBe(backend === 'cpu' ? 'onnx' : 'wgsl');
    said.push((await host.answer('medkqa', turns, 1, silent, running)).tokens);
    host.close();
  }
  expect(said[0]).toEqual(said[1]);
  expect(said[0]?.length).toBeGreaterThan(0);
});

describe('a package that is not in order', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'host-test-'));
    await cp(TINY, folder, { recursive: true });
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('is refused where its weights do not give the recorded numbers', async () => {
    const manifest = parseManifest(await readFile(join(TINY, 'manifest.json')));
    const block = tensorByName(manifest).get('layers.0.qkv')?.blocks[0];
    if (block === undefined) throw new Error('the tiny package has no layers.0.qkv');
    const shard = new Uint8Array(await readFile(join(TINY, block.file)));
    shard.fill(0x88, block.offset, block.offset + block.bytes / 2); // 0x8: every weight is zero
    const hash = await sha256(shard);
    const files = manifest.files.map((file) =>
      file.name === block.file ? { ...file, sha256: hash } : file,
    );
    await writeFile(join(folder, block.file), shard);
    await writeFile(join(folder, 'manifest.json'), JSON.stringify({ ...manifest, files }));
    const opened = Host.open(options('--package', folder), silent);
    await expect(opened).rejects.toMatchObject({ name: 'WrongNumbers' });
    await expect(opened).rejects.toThrow(/known answer of \w+, position \d+: token \d+ has logit/);
  });

  it('is refused before a GPU is looked for where task or mode are not its own', async () => {
    const unknown = Host.open(options('--task', 'surgery'), silent);
    await expect(unknown).rejects.toMatchObject({ name: 'UnknownTask' });
    const routed = Host.open(options('--routed'), silent);
    await expect(routed).rejects.toMatchObject({ name: 'NotRouted' });
  });
});
