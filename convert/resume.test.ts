import { spawn } from 'node:child_process';
import { mkdir, readdir, readFile, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { convert, type ConvertOptions } from './convert.ts';
import { readRecipe } from './recipe.ts';
import { failure } from './testing-run.ts';
import { checkpointFiles, config, folderOf, modelTensors } from './testing.ts';

const LAYERS = 24;
const root = join(import.meta.dirname, '..');

let checkpoint: string;
let whole: Map<string, Buffer>;
const optionsOf = (out: string): ConvertOptions => ({
  checkpoint,
  adapter: null,
  out,
  shardBytes: 1 << 16,
  threads: 1,
});

async function bytesOf(folder: string): Promise<Map<string, Buffer>> {
  const names = (await readdir(folder)).sort();
  const files = names.map(async (name) => [name, await readFile(join(folder, name))] as const);
  return new Map(await Promise.all(files));
}

beforeAll(async () => {
  checkpoint = await folderOf({
    ...checkpointFiles(modelTensors(LAYERS)),
    'config.json': { ...config, num_hidden_layers: LAYERS },
  });
  const out = join(await folderOf({}), 'package');
  await convert(optionsOf(out));
  whole = await bytesOf(out);
});

/** Interrupts a conversion once so many bytes, or layers of known answers, are done. */
async function interrupted(phase: string, from: number): Promise<string> {
  const out = join(await folderOf({}), 'package');
  const stop = new AbortController();
  const onProgress = (now: string, done: number) => {
    if (now === phase && done >= from) stop.abort();
  };
  const options = { ...optionsOf(out), onProgress, signal: stop.signal };
  expect(await failure(convert(options))).toContain('Cancelled');
  expect(await readdir(`${out}.partial`)).not.toContain('lock');
  return out;
}

describe('a conversion', () => {
  it('gives the same bytes in every run, whatever its threads', async () => {
    for (const threads of [1, 3]) {
      const out = join(await folderOf({}), 'package');
      await convert({ ...optionsOf(out), threads });
      expect(await bytesOf(out)).toEqual(whole);
    }
  });

  it.each([
    ['weights', 300_000],
    ['known answer', 60],
  ])('interrupted in %s goes on and ends in the same bytes', async (phase, from) => {
    const out = await interrupted(phase, from);
    const kept = await stat(join(`${out}.partial`, 'shard-00001.bin'));
    const first = { weights: 0, 'known answer': 0 };
    await convert({
      ...optionsOf(out),
      onProgress: (now, done) => {
        if (first[now] === 0) first[now] = done;
      },
    });
    expect(await bytesOf(out)).toEqual(whole);
    expect((await stat(join(out, 'shard-00001.bin'))).mtimeMs).toBe(kept.mtimeMs);
    if (phase === 'weights') expect(first.weights).toBeGreaterThan(from);
    else expect(first.weights).toBe(0); // all files were there
  });

  it('writes a file again that is not what was written', async () => {
    const out = await interrupted('weights', 300_000);
    const partial = `${out}.partial`;
    const spoilt = await readFile(join(partial, 'shard-00002.bin'));
    spoilt[77] = (spoilt[77] ?? 0) ^ 1;
    await writeFile(join(partial, 'shard-00002.bin'), spoilt);
    await writeFile(join(partial, 'shard-00003.bin'), 'short');
    const log = await readFile(join(partial, 'progress.jsonl'), 'utf8');
    await writeFile(join(partial, 'progress.jsonl'), log.slice(0, -40)); // a line cut short
    await convert(optionsOf(out));
    expect(await bytesOf(out)).toEqual(whole);
  });

  it('begins anew for another checkpoint, and for other options', async () => {
    const out = await interrupted('weights', 300_000);
    await convert({ ...optionsOf(out), recipe: await readRecipe('naive') });
    const naive = await bytesOf(out);
    expect(naive.get('shard-00001.bin')).not.toEqual(whole.get('shard-00001.bin'));

    const again = await interrupted('weights', 300_000);
    const marked = join(`${again}.partial`, 'shard-00001.bin');
    await utimes(marked, 1, 1);
    await utimes(join(checkpoint, 'model.safetensors'), new Date(), new Date());
    await convert(optionsOf(again));
    expect(await bytesOf(again)).toEqual(whole);
    expect((await stat(join(again, 'shard-00001.bin'))).mtimeMs).toBeGreaterThan(1000);
  });

  it('does not write where another process does, but where one is gone', async () => {
    const out = join(await folderOf({}), 'package');
    await mkdir(`${out}.partial`);
    await writeFile(join(`${out}.partial`, 'lock'), String(process.ppid));
    expect(await failure(convert(optionsOf(out)))).toMatch(/^Usage: .*partial: process \d+ is/);
    const child = spawn(process.execPath, ['-e', '']);
    await new Promise((resolve) => child.on('close', resolve));
    await writeFile(join(`${out}.partial`, 'lock'), String(child.pid));
    await convert(optionsOf(out));
    expect(await bytesOf(out)).toEqual(whole);
  });

  it('names the file that a full disk does not take, and leaves nothing', async () => {
    for (const threads of [1, 3]) {
      const parent = await folderOf({});
      const out = join(parent, 'package');
      // Linux says of every byte written there that the disk is full.
      let linked: Promise<void> | null = null;
      const onProgress = () => {
        linked ??= symlink('/dev/full', join(`${out}.partial`, 'shard-00007.bin'));
      };
      const failed = await failure(convert({ ...optionsOf(out), threads, onProgress }));
      expect(failed).toMatch(/^StorageFull: .*package\.partial.shard-00007\.bin: the disk is full/);
      expect(await readdir(parent)).toEqual([]);
    }
  });

  it('that is killed goes on, in the weights and in the known answers', async () => {
    const out = join(await folderOf({}), 'package');
    const partial = `${out}.partial`;
    const args = [checkpoint, '--out', out, '--shard-bytes', '65536'];
    const files = async () => (await readdir(partial).catch(() => [])).sort();
    const killOnce = async (due: (names: readonly string[]) => Promise<boolean> | boolean) => {
      const child = spawn(process.execPath, ['--import', 'tsx', 'convert/main.ts', ...args], {
        cwd: root,
      });
      const ended = new Promise((resolve) => child.on('close', (_, signal) => resolve(signal)));
      for (let i = 0; i < 12_000 && child.exitCode === null; i++) {
        if (await due(await files())) break;
        await sleep(2);
      }
      child.kill('SIGKILL');
      expect(await ended).toBe('SIGKILL');
    };
    await killOnce((names) => names.includes('shard-00006.bin'));
    expect(await files()).toContain('lock');
    const size = async () => (await stat(join(partial, 'known-answer.partial'))).size;
    await killOnce(
      async (names) => names.includes('known-answer.partial') && (await size()) > 60_000,
    );
    expect(await files()).not.toContain('manifest.json');
    await convert(optionsOf(out));
    expect(await bytesOf(out)).toEqual(whole);
    expect(await readdir(join(out, '..'))).toEqual(['package']);
  });
});
