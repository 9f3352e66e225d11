import { copyFile, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { GROUP_SIZE, type Manifest } from '../../src/format/manifest.ts';
import { parseSafetensors, toFloat32 } from '../../src/format/safetensors.ts';
import { runCommand } from '../cli.ts';
import { blockReader, readManifest } from '../reader.ts';
import { Reference } from '../reference.ts';
import { checkpointFiles, folderOf, mergedAdapterFiles } from '../testing.ts';
import { run } from '../testing-run.ts';
import { OnnxSession, parseExternal } from './testing.ts';
import { onnxModel } from '../../src/onnx/model.ts';

const fixtures = join(import.meta.dirname, '../../e2e/fixtures');

/**
 * Both compute in f32 and add up in other orders. Logits are around 10; what was seen is 1e-5, and
 * what must not pass, the gates of another task, is above 1e-2.
 */
const TOLERANCE = 5e-5;

const golden = v.object({
  tasks: v.record(
    v.string(),
    v.object({ prompt_tokens: v.array(v.number()), greedy_tokens: v.array(v.number()) }),
  ),
});

async function readGolden(name: string) {
  const path = join(fixtures, 'golden', name);
  const json: unknown = JSON.parse(await readFile(`${path}.json`, 'utf8'));
  const tensors = parseSafetensors(await readFile(`${path}.safetensors`));
  return { ...v.parse(golden, json), tensors };
}

function worst(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let most = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs((actual[i] ?? NaN) - (expected[i] ?? NaN));
    if (!(error <= most)) most = error;
  }
  return most;
}

const best = (logits: Float32Array): number => logits.indexOf(Math.max(...logits));

const packages = ['tiny', 'tiny-routed', 'tiny-alibi', 'tiny-llama', 'tiny-qwen2', 'tiny-qwen3'];

describe.each(packages)('model.onnx of %s', (name) => {
  const folder = join(fixtures, name);

  it('computes in ONNX Runtime what PyTorch did: logits and 32 greedy tokens', async () => {
    const { tasks, tensors } = await readGolden(name);
    const manifest = await readManifest(folder);
    const { vocab } = manifest.config;
    const model = onnxModel(manifest);
    expect(Object.keys(tasks).length).toBeGreaterThan(0);
    for (const [task, { prompt_tokens: prompt, greedy_tokens: greedy }] of Object.entries(tasks)) {
      const session = await OnnxSession.open(model, manifest, folder, task);
      const stored = tensors.get(`${task}.logits`);
      if (stored === undefined) throw new Error(`no golden logits of ${task}`);
      const expected = toFloat32(stored.dtype, stored.bytes);
      expect(expected.length).toBe(prompt.length * vocab);
      const row = (i: number) => expected.subarray(i * vocab, (i + 1) * vocab);
      for (const [i, token] of prompt.entries()) {
        expect(worst(await session.run([token]), row(i))).toBeLessThan(TOLERANCE);
      }
      session.clear();
      let logits = await session.run(prompt);
      expect(worst(logits, row(prompt.length - 1))).toBeLessThan(TOLERANCE);
      const tokens: number[] = [];
      while (tokens.length < greedy.length) {
        tokens.push(best(logits));
        logits = await session.run(tokens.slice(-1));
      }
      expect(tokens).toEqual(greedy);
      await session.close();
    }
  });

  it('takes every number of the shards from where it lies, none twice, and adds few', async () => {
    const manifest = await readManifest(folder);
    const model = onnxModel(manifest);
    const places = parseExternal(model);
    for (const { file, offset, bytes } of places) {
      const info = manifest.files.find((one) => one.name === file);
      expect(offset + bytes).toBeLessThanOrEqual(info?.bytes ?? 0);
    }
    const sorted = places.toSorted((a, b) => a.file.localeCompare(b.file) || a.offset - b.offset);
    sorted.slice(1).forEach(({ file, offset }, i) => {
      const before = sorted[i];
      if (before?.file === file) expect(before.offset + before.bytes).toBeLessThanOrEqual(offset);
    });
    const taken = places.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(taken).toBe(numberBytes(manifest));
    expect(model.length).toBeLessThan(64_000);
  });
});

/** Bytes of all numbers of a package, without what pads its blocks. */
function numberBytes({ tensors }: Manifest): number {
  const bits = { q4: 4 + 16 / GROUP_SIZE, q8: 8 + 16 / GROUP_SIZE, f16: 16, f32: 32 };
  return tensors.reduce((sum, { dtype, shape }) => {
    return sum + (shape.reduce((a, b) => a * b, 1) * bits[dtype]) / 8;
  }, 0);
}

describe('a package whose tensors are cut into many blocks', () => {
  it('computes what the reference does', async () => {
    const { manifest, out } = await run(checkpointFiles(), mergedAdapterFiles(), {
      shardBytes: 1024,
    });
    const blocks = (name: string) => manifest.tensors.find((one) => one.name === name)?.blocks;
    for (const name of ['embed', 'head', 'layers.0.gate_up', 'adapter.layers.0.down_proj.a']) {
      expect(blocks(name)?.length, name).toBeGreaterThan(1);
    }
    const tokens = [5, 287, 31, 32, 100, 0, 64, 250];
    const reference = new Reference(manifest, blockReader(out));
    const rows = await reference.forward([{ sequence: reference.start('evidiag'), tokens }]);
    for (const unpacked of [false, true]) {
      const model = onnxModel(manifest, { unpacked });
      const session = await OnnxSession.open(model, manifest, out, 'evidiag');
      expect(worst(await session.run(tokens), rows.at(-1) ?? [])).toBeLessThan(TOLERANCE);
      session.clear();
      for (const [i, token] of tokens.entries()) {
        expect(worst(await session.run([token]), rows[i] ?? [])).toBeLessThan(TOLERANCE);
      }
      await session.close();
    }
  });
});

describe('what ONNX Runtime cannot run', () => {
  it('is refused where its weights need more than 4 GiB of addresses', async () => {
    const manifest = await readManifest(join(fixtures, 'tiny'));
    const grown = (layers: number): Manifest => ({
      ...manifest,
      tensors: Array.from({ length: layers }, (_, i) => {
        const shape = [3 * 11008, 8192];
        return { name: `layers.${i}.gate_up`, dtype: 'q4' as const, shape, blocks: [] };
      }),
    });
    const refused = () => onnxModel(grown(24));
    expect(refused).toThrow(expect.objectContaining({ name: 'CpuLimit' }));
    expect(refused).toThrow(/need 3\.78 GiB .* 32-bit WebAssembly has 4\.00 GiB/);
  });

  it('is refused where heads are too narrow to be turned', async () => {
    const manifest = await readManifest(join(fixtures, 'tiny'));
    const narrow = { ...manifest, config: { ...manifest.config, headDim: 24 } };
    expect(() => onnxModel(narrow)).toThrow(/headDim 24: .* whole 16s/);
  });
});

describe('convert onnx', () => {
  async function command(...args: string[]) {
    let [out, error] = ['', ''];
    const terminal = {
      out: (text: string) => void (out += text),
      error: (text: string) => void (error += text),
      signal: new AbortController().signal,
    };
    return { code: await runCommand(args, terminal), out, error };
  }

  it('writes the same model.onnx as --onnx does', async () => {
    const { out } = await run(checkpointFiles(), mergedAdapterFiles(), { onnx: true });
    const first = await readFile(join(out, 'model.onnx'));
    await writeFile(join(out, 'model.onnx'), 'old');
    expect(await command('onnx', out)).toMatchObject({ code: 0, error: '' });
    expect(await readFile(join(out, 'model.onnx'))).toEqual(first);
    expect(await command('verify', out)).toMatchObject({ code: 0 });
    await command('onnx', out, '--int8-activations');
    expect(await readFile(join(out, 'model.onnx'))).not.toEqual(first);
  });

  it('leaves no model.onnx of an older package behind', async () => {
    const { out } = await run(checkpointFiles(), null, { onnx: true });
    await run(checkpointFiles(), mergedAdapterFiles(), { out });
    expect(await readdir(out)).not.toContain('model.onnx');
  });

  it('says what is missing, and leaves no half of a file', async () => {
    const empty = await folderOf({});
    expect(await command('onnx', empty)).toMatchObject({ code: 1 });
    const folder = await folderOf({});
    await copyFile(join(fixtures, 'tiny/manifest.json'), join(folder, 'manifest.json'));
    await command('onnx', folder);
    expect((await readdir(folder)).sort()).toEqual(['manifest.json', 'model.onnx']);
    expect((await stat(join(folder, 'model.onnx'))).size).toBeGreaterThan(1000);
  });
});
