import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseSafetensors, toFloat32 } from '../../src/format/safetensors.ts';
import { failure } from '../testing-run.ts';
import { ggufConfig, ggufTensors } from './gguf-model.ts';
import { openGguf } from './gguf.ts';
import { ggufOf, memorySource, type GgufParts } from './testing.ts';

/** types.gguf was written by llama.cpp's library: see fixtures/make_gguf.py. */
const fixture = (name: string): Uint8Array =>
  readFileSync(new URL(`../fixtures/gguf/${name}`, import.meta.url));
const open = (parts: GgufParts) => openGguf(memorySource(ggufOf(parts)));

const one = (type: number, shape: number[], bytes: number) => ({
  tensors: { 'token_embd.weight': { type, shape, bytes: new Uint8Array(bytes) } },
});

describe('a GGUF file', () => {
  it('gives values of every type as llama.cpp does, to the bit, row by row', async () => {
    const { tensors } = await openGguf(memorySource(fixture('types.gguf')));
    const expected = parseSafetensors(fixture('types.safetensors'));
    expect([...tensors.keys()].sort()).toEqual(['BF16', 'F16', 'F32', 'Q4_0', 'Q6_K', 'Q8_0']);
    for (const [name, { shape, bytes }] of expected) {
      const tensor = tensors.get(name);
      expect([tensor?.typeName, tensor?.shape], name).toEqual([name, shape]);
      const values = toFloat32('F32', bytes);
      expect(await tensor?.rows(0, 3), name).toEqual(values);
      expect(await tensor?.rows(1, 2), name).toEqual(values.subarray(512, 1024));
    }
  });

  it('has metadata of every kind, f32 as it was written down', async () => {
    const { metadata } = await open({
      metadata: {
        a: [6, 1e-6],
        b: [10, 2 ** 40],
        c: [9, ['x', '中文']],
        d: [7, 1],
        e: [5, -3],
        f: [6, 1 / 3],
      },
    });
    expect(Object.fromEntries(metadata)).toEqual({
      ...{ a: 1e-6, b: 2 ** 40, c: ['x', '中文'], d: true, e: -3 },
      f: Math.fround(1 / 3),
    });
  });

  it('may have a header of megabytes', async () => {
    const pieces = Array.from({ length: 60_000 }, (_, i) => `a piece ${i}`);
    const { metadata } = await open({ metadata: { pieces: [9, pieces] } });
    expect(metadata.get('pieces')).toEqual(pieces);
  });

  it.each([
    [
      'a type that is not read',
      one(12, [1, 256], 144),
      'is Q4_K; F32, F16, Q4_0, Q8_0, Q6_K, BF16',
    ],
    ['a type that nobody knows', one(77, [1, 32], 32), 'is number 77'],
    ['half a block in a row', one(2, [2, 48], 54), 'Q4_0 [2, 48]'],
    ['a tensor that is cut', one(0, [99, 99], 4), 'ends at'],
    ['an older version', { version: 1 }, 'version 1'],
    ['another byte order', { version: 3 << 24 }, 'little-endian'],
  ])('with %s is refused', async (_, parts: GgufParts, message) => {
    const text = await failure(open(parts));
    expect(text).toMatch(/^BadCheckpoint: GGUF: /);
    expect(text).toContain(message);
  });

  it('is refused wherever its header ends too early', async () => {
    const bytes = fixture('llama.gguf');
    for (let end = 0; end < 3000; end += 11) {
      const text = await failure(openGguf(memorySource(bytes.subarray(0, end))));
      expect(text, `${end} bytes`).toMatch(/^BadCheckpoint: GGUF: /);
    }
  });
});

describe('the metadata of a GGUF file', () => {
  const entries = {
    'general.architecture': [8, 'baichuan'],
    'baichuan.block_count': [4, 40],
    'baichuan.context_length': [4, 4096],
    'baichuan.embedding_length': [4, 64],
    'baichuan.attention.head_count': [4, 4],
  } as const;
  const config = async (metadata: GgufParts['metadata']) =>
    ggufConfig(await open({ metadata: { ...entries, ...metadata } }));

  it('says that a Baichuan of 40 layers has linear biases, and no other', async () => {
    const large = await config({});
    expect(large).toMatchObject({ model_max_length: 4096, head_dim: 16 });
    expect(large).not.toHaveProperty('max_position_embeddings');
    expect(await config({ 'baichuan.block_count': [4, 32] })).toMatchObject({
      max_position_embeddings: 4096,
    });
  });

  it.each([
    [{ 'general.architecture': [8, 'constructor'] }, 'architecture constructor is not known'],
    [{ 'general.architecture': [8, 'gemma2'] }, 'convert reads llama, baichuan, qwen2, qwen3'],
    [{ 'baichuan.rope.scaling.type': [8, 'yarn'] }, 'rope.scaling.type is yarn'],
    [{ 'baichuan.expert_count': [4, 8] }, 'expert_count is 8'],
    [{ 'baichuan.attention.value_length': [4, 32] }, 'value_length is 32, heads have 16'],
    [{ 'baichuan.rope.dimension_count': [4, 8] }, 'rope.dimension_count is 8'],
  ] as const)('with %j is refused', async (metadata, message) => {
    expect(await failure(config(metadata as GgufParts['metadata']))).toContain(message);
  });

  it('goes with tensors that have a place', async () => {
    const file = await open({
      metadata: entries,
      tensors: { 'rope_freqs.weight': { type: 0, shape: [8], bytes: new Uint8Array(32) } },
    });
    expect(() => ggufTensors(file)).toThrow('tensor rope_freqs.weight has no place');
  });
});
