import { spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { runCommand } from './cli.ts';
import { readManifest } from './reader.ts';
import {
  checkpointFiles,
  config,
  folderOf,
  mergedAdapterFiles,
  modelTensors,
  without,
} from './testing.ts';

const root = join(import.meta.dirname, '..');

/** Starts a process as `npm run convert --` does. */
function start(args: readonly string[]) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'convert/main.ts', ...args], {
    cwd: root,
    env: { ...process.env, NO_COLOR: '1' },
  });
  let [out, error] = ['', ''];
  child.stdout.on('data', (bytes: Buffer) => (out += bytes.toString()));
  child.stderr.on('data', (bytes: Buffer) => (error += bytes.toString()));
  const ended = new Promise<{ code: number | null; out: string; error: string }>((resolve) => {
    child.on('close', (code) => resolve({ code, out, error }));
  });
  return { child, ended };
}

/** The same without a process of its own. */
async function command(...args: string[]) {
  let [out, error] = ['', ''];
  const code = await runCommand(args, {
    out: (text) => (out += text),
    error: (text) => (error += text),
    signal: new AbortController().signal,
  });
  return { code, out: stripVTControlCharacters(out), error: stripVTControlCharacters(error) };
}

let parent: string;
let checkpoint: string;
let adapter: string;

beforeAll(async () => {
  parent = await folderOf({});
  checkpoint = await folderOf(checkpointFiles());
  adapter = await folderOf(mergedAdapterFiles());
});

describe('npm run convert', () => {
  it('writes a package that verify and inspect like, and ends with 0', async () => {
    const out = join(parent, 'good');
    const written = await start([checkpoint, '--adapter', adapter, '--out', out]).ended;
    expect(written).toMatchObject({ code: 0, error: '' });
    expect(written.out).toContain(`wrote ${out}: 3 files`);
    const verified = await command('verify', out, '--recompute');
    expect(verified).toMatchObject({ code: 0, error: '' });
    expect(verified.out).toContain(`${out}: whole`);
    const inspected = await command('inspect', out);
    expect(inspected).toMatchObject({ code: 0, error: '' });
    expect(inspected.out).toContain('tiny-random');
  });

  it('inspect draws gates in the form that the name of the file says', async () => {
    const out = join(parent, 'drawn');
    await command(checkpoint, '--adapter', adapter, '--out', out);
    const draw = (name: string) => command('inspect', out, '--gates', join(parent, name));
    expect(await draw('gates.svg')).toMatchObject({ code: 0, error: '' });
    expect(await draw('gates.PNG')).toMatchObject({ code: 0, error: '' });
    expect(await readFile(join(parent, 'gates.svg'), 'utf8')).toMatch(/^<svg /);
    expect((await readFile(join(parent, 'gates.PNG'))).toString('latin1', 1, 4)).toBe('PNG');
    const other = await draw('gates.jpg');
    expect(other.code).toBe(2);
    expect(other.error).toContain('gates.jpg: a file in .svg or .png');
  });

  it('ends with 1 and one line for what can be expected', async () => {
    const broken = await folderOf(without(checkpointFiles(), 'model.safetensors'));
    const result = await command(broken, '--out', join(parent, 'none'));
    expect(result).toMatchObject({ code: 1, out: '' });
    expect(result.error).toMatch(/^NotFound: .*model\.safetensors.*\n$/);
    expect(await command('verify', parent)).toMatchObject({ code: 1 });
    expect(await command('inspect', join(parent, 'nowhere'))).toMatchObject({ code: 1 });
  });

  it('verify ends with 1 where a package has no known answers', async () => {
    const out = join(parent, 'silent');
    const files = checkpointFiles();
    const about = { ...(files['pediatricsgpt.json'] as object), known_answer_prompts: {} };
    const silent = await folderOf({ ...files, 'pediatricsgpt.json': about });
    expect(await command(silent, '--out', out)).toMatchObject({ code: 0 });
    const result = await command('verify', out);
    expect(result.code).toBe(1);
    expect(result.out).toContain('BAD known answers: none');
  });

  it.each([
    [[], /missing required argument 'checkpoint'|required option '--out/],
    [['somewhere'], /required option '--out/],
    [['somewhere', '--out', 'x', '--shard-bytes', '1e9'], /whole number from 1 to 16777216/],
    [['somewhere', '--out', 'x', '--colour', 'red'], /unknown option/],
    [['verify'], /missing required argument 'package'/],
  ])('ends with 2 for %j', async (args, message) => {
    const result = await command(...args);
    expect(result.code).toBe(2);
    expect(result.error).toMatch(message);
  });

  it('tells how it is used', async () => {
    expect(await command('--help')).toMatchObject({ code: 0, error: '' });
  });

  it('keeps what is whole after an interrupt, and leaves the older package', async () => {
    const out = join(parent, 'kept');
    await command(checkpoint, '--out', out);
    const layers = 60;
    const large = await folderOf({
      ...checkpointFiles(modelTensors(layers)),
      'config.json': { ...config, num_hidden_layers: layers },
    });
    const { child, ended } = start([large, '--out', out, '--shard-bytes', '65536']);
    const shards = async (): Promise<number> => {
      const partial = (await readdir(parent)).find((name) => name === 'kept.partial');
      return partial === undefined ? 0 : (await readdir(join(parent, partial))).length;
    };
    for (let i = 0; i < 3000 && (await shards()) < 2; i++) await sleep(5);
    child.kill('SIGINT');
    const result = await ended;
    expect(result).toMatchObject({ code: 130, out: '' });
    expect(result.error).toContain('interrupted; run the same command again to go on');
    expect((await readManifest(out)).config.layers).toBe(2);
    expect((await readdir(parent)).filter((name) => name.startsWith('kept')).sort()).toEqual([
      'kept',
      'kept.partial',
    ]);
  });
});
