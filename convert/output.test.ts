import { readdirSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { convert } from './convert.ts';
import { readManifest } from './reader.ts';
import { checkpointFiles, f32, folderOf, mergedAdapterFiles, modelTensors } from './testing.ts';
import { failure, run } from './testing-run.ts';

describe('a conversion that fails', () => {
  /** Throws in the midst of the weights, and in the midst of the known answers. */
  const stops = [
    ['weights', 5],
    ['known answer', 3],
  ] as const;

  it.each(stops)('in %s leaves nothing', async (phase, at) => {
    const parent = await folderOf({});
    const out = join(parent, 'package');
    let calls = 0;
    const onProgress = (now: string) => {
      if (now === phase && ++calls === at) throw new Error('power cut');
    };
    const failed = run(checkpointFiles(), mergedAdapterFiles(), {
      out,
      onProgress,
      shardBytes: 4096,
    });
    expect(await failure(failed)).toBe('Bug: power cut');
    expect(await readdir(parent)).toEqual([]);
  });

  it('never has a manifest before everything else is written', async () => {
    const parent = await folderOf({});
    const out = join(parent, 'package');
    const seen = new Set<string>();
    const onProgress = () => {
      for (const name of readdirSync(parent, { recursive: true })) seen.add(String(name));
    };
    await run(checkpointFiles(), mergedAdapterFiles(), { out, onProgress, shardBytes: 4096 });
    expect([...seen].some((name) => name.endsWith('shard-00001.bin'))).toBe(true);
    expect([...seen].filter((name) => name.endsWith('manifest.json'))).toEqual([]);
    expect(await readdir(parent)).toEqual(['package']);
  });

  it('stops when it is told to, keeps what is whole, and goes on with it', async () => {
    const parent = await folderOf({});
    const stop = new AbortController();
    const onProgress = (phase: string, done: number) => {
      if (phase === 'weights' && done > 30_000) stop.abort();
    };
    const checkpoint = await folderOf(checkpointFiles());
    const options = { checkpoint, adapter: null, out: join(parent, 'package'), shardBytes: 4096 };
    const stopped = convert({ ...options, onProgress, signal: stop.signal });
    expect(await failure(stopped)).toContain('Cancelled');
    expect(await readdir(parent)).toEqual(['package.partial']);
    const started: number[] = [];
    await convert({ ...options, onProgress: (_, done) => started.push(done) });
    expect(started[0]).toBeGreaterThan(30_000);
    expect(await readdir(parent)).toEqual(['package']);
  });

  it('leaves an older package as it was, and a good one replaces it with what lies beside it', async () => {
    const parent = await folderOf({});
    const out = join(parent, 'package');
    await run(checkpointFiles(), mergedAdapterFiles(), { out });
    await writeFile(join(out, 'MODEL_CARD.md'), 'about');
    const before = await readFile(join(out, 'manifest.json'));
    const broken = checkpointFiles({ ...modelTensors(), extra: f32([1], () => 0) });
    expect(await failure(run(broken, null, { out }))).toContain('tensor extra');
    let calls = 0;
    const onProgress = () => {
      if (++calls === 9) throw new Error('power cut');
    };
    expect(await failure(run(checkpointFiles(), null, { out, onProgress }))).toContain('power cut');
    expect(await readFile(join(out, 'manifest.json'))).toEqual(before);

    await run(checkpointFiles(), null, { out });
    expect((await readManifest(out)).adapter).toBeNull();
    expect((await readdir(out)).sort()).toEqual([
      'MODEL_CARD.md',
      'manifest.json',
      'shard-00000.bin',
      'tokenizer.json',
    ]);
    expect(await readdir(parent)).toEqual(['package']);
  });

  it('does not touch a folder that is no package, nor a file', async () => {
    const out = await folderOf({ 'letter.txt': 'dear' });
    expect(await failure(run(checkpointFiles(), null, { out }))).toContain('no manifest.json');
    expect(await readdir(out)).toEqual(['letter.txt']);
    const text = await failure(run(checkpointFiles(), null, { out: join(out, 'letter.txt') }));
    expect(text).toContain('not a folder');
  });
});
