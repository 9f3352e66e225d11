import { stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { failureName } from '../src/failure.ts';
import { writeSafetensors } from '../src/format/safetensors.ts';
import { f32, folderOf, narrowed } from './testing.ts';
import { Weights } from './weights.ts';

const numbers = f32([3, 2], (i) => i + 0.5);
const others = f32([2], (i) => -i);

async function failure(run: () => Promise<unknown>): Promise<string> {
  try {
    await run();
  } catch (error) {
    return `${failureName(error)}: ${error instanceof Error ? error.message : ''}`;
  }
  return 'no failure';
}

async function openOf(files: Record<string, unknown>): Promise<Weights> {
  return Weights.open(await folderOf(files), 'model');
}

const index = (map: Record<string, string>) => ({ metadata: { total_size: 1 }, weight_map: map });

describe('weights', () => {
  it('are read row by row from one file', async () => {
    const weights = await openOf({
      'model.safetensors': writeSafetensors({ a: numbers, b: others }),
    });
    expect(weights.names()).toEqual(['a', 'b']);
    expect(await weights.rows('a', 1, 3)).toEqual(Float32Array.of(2.5, 3.5, 4.5, 5.5));
    expect(await weights.all('b')).toEqual(Float32Array.of(-0, -1));
    await weights.close();
  });

  it('are read from shards', async () => {
    const weights = await openOf({
      'model-1.safetensors': writeSafetensors({ a: numbers }),
      'model-2.safetensors': writeSafetensors(narrowed({ b: numbers }, 'BF16')),
      'model.safetensors.index.json': index({
        a: 'model-1.safetensors',
        b: 'model-2.safetensors',
      }),
    });
    expect(await weights.rows('a', 0, 1)).toEqual(Float32Array.of(0.5, 1.5));
    expect(await weights.rows('b', 0, 1)).toEqual(Float32Array.of(0.5, 1.5));
    expect(weights.files).toEqual(['model-1.safetensors', 'model-2.safetensors']);
    await weights.close();
  });

  it('are preferred as safetensors, where a folder has both forms', async () => {
    const weights = await openOf({
      'model.safetensors': writeSafetensors({ a: numbers }),
      'pytorch_model.bin': Uint8Array.of(1, 2, 3),
    });
    expect(weights.files).toEqual(['model.safetensors']);
    await weights.close();
  });

  it('that are missing are named, with what is needed', async () => {
    expect(await failure(() => openOf({}))).toMatch(
      /NotFound: .*: no weights; a checkpoint needs model.safetensors or pytorch_model.bin, whole/,
    );
  });

  it.each([
    ['is missing', { a: 'model-9.safetensors' }, 'NotFound', 'model-9.safetensors'],
    [
      'lacks a tensor',
      { a: 'model-1.safetensors', c: 'model-1.safetensors' },
      'BadCheckpoint',
      'tensor c is not in it',
    ],
    ['has a tensor more', { b: 'model-1.safetensors' }, 'BadCheckpoint', 'tensor a is not listed'],
    ['is outside the folder', { a: '../model-1.safetensors' }, 'BadCheckpoint', 'weight_map'],
  ])('whose shard %s are refused', async (_, map, name, message) => {
    const files = {
      'model-1.safetensors': writeSafetensors({ a: numbers, b: others }),
      'model.safetensors.index.json': index(map),
    };
    const text = await failure(() => openOf(files));
    expect(text).toContain(name);
    expect(text).toContain(message);
  });

  it('that are cut short are refused with the file name', async () => {
    const file = writeSafetensors({ a: numbers });
    const text = await failure(() => openOf({ 'model.safetensors': file.subarray(0, -1) }));
    expect(text).toMatch(/BadCheckpoint: .*model\.safetensors: safetensors: 23 bytes of data/);
  });

  it('whose file becomes shorter while it is read are named', async () => {
    const folder = await folderOf({ 'model.safetensors': writeSafetensors({ a: numbers }) });
    const weights = await Weights.open(folder, 'model');
    const path = join(folder, 'model.safetensors');
    await truncate(path, (await stat(path)).size - 5);
    expect(await failure(() => weights.rows('a', 0, 3))).toMatch(
      /^BadCheckpoint: .*model\.safetensors: tensor a, row 0: file ends at byte \d+$/,
    );
    await weights.close();
  });

  it.each([NaN, Infinity, 70000, -1e9])('that hold %f are refused', async (value) => {
    const tensor = f32([3, 2], (i) => (i === 4 ? value : 1));
    const weights = await openOf({ 'model.safetensors': writeSafetensors({ a: tensor }) });
    expect(await weights.rows('a', 0, 2)).toEqual(Float32Array.of(1, 1, 1, 1));
    expect(await failure(() => weights.rows('a', 1, 3))).toContain(
      `tensor a, row 2: ${value} is outside the range of f16`,
    );
    await weights.close();
  });

  it.each([
    [0x477f, 65280],
    [0xc77f, -65280],
    [0x4780, null],
    [0xc780, null],
    [0x7f80, null],
    [0xffc0, null],
  ])('in bf16 of bits %i are %s', async (bits, value) => {
    const halves = Uint16Array.of(0x3f80, 0x3f80, bits, 0);
    const tensor = { dtype: 'BF16', shape: [2, 2], bytes: new Uint8Array(halves.buffer) } as const;
    const weights = await openOf({ 'model.safetensors': writeSafetensors({ a: tensor }) });
    if (value === null) {
      expect(await failure(() => weights.rows('a', 0, 2))).toMatch(
        /tensor a, row 1: .* is outside/,
      );
    } else expect([...(await weights.rows('a', 0, 2))]).toEqual([1, 1, value, 0]);
    await weights.close();
  });

  it('of another shape or dtype are refused', async () => {
    const weights = await openOf({ 'model.safetensors': writeSafetensors({ a: numbers }) });
    const expecting = (name: string, shape: number[], dtype: 'F32' | 'U8') =>
      failure(() => Promise.resolve().then(() => weights.expect(name, shape, [dtype])));
    expect(await expecting('a', [3, 2], 'F32')).toBe('no failure');
    expect(await expecting('a', [2, 3], 'F32')).toContain('tensor a is F32 [3, 2], not F32 [2, 3]');
    expect(await expecting('a', [3, 2], 'U8')).toContain('not U8 [3, 2]');
    expect(await expecting('z', [3], 'F32')).toContain('tensor z is missing');
    await weights.close();
  });
});
