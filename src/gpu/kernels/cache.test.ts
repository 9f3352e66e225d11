import { describe, expect, it, vi } from 'vitest';
import {
  elemPart,
  gpuCases,
  openTestGpu,
  runSteps,
  runStepsElem,
  testNumbers,
  upload,
  uploadParams,
  worstError,
  type GpuCase,
} from '../testing.ts';
import { attentionReference, ropeReference } from './attention-reference.ts';
import { alibiSlopes, createAttention } from './attention.ts';
import { createAttentionCombine } from './attention_combine.ts';
import { createAttentionDecode } from './attention_decode.ts';
import { cacheLayout, type CacheShape } from './cache.ts';
import { createKvWrite } from './kv_write.ts';
import { ropeTable } from './rope.ts';
import type { Gpu } from '../gpu.ts';

/** The kernels around a KV cache of 8 bits. */

// Lavapipe compiles a fused kernel for many seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

/** A cache as its buffer holds it, and the values that this stands for, [S, K, Dh]. */
interface Cache {
  readonly words: Uint32Array<ArrayBuffer>;
  readonly values: Float32Array<ArrayBuffer>;
  readonly scales: Float32Array<ArrayBuffer>; // [S, K]
}

/** What the words of a cache stand for: 127 is the scale of the head. */
function read(words: Uint32Array<ArrayBuffer>, { capacity, kvHeads, headDim }: CacheShape): Cache {
  const heads = capacity * kvHeads;
  const bytes = new Int8Array(words.buffer, 0, heads * headDim);
  const scales = new Float32Array(words.buffer, heads * headDim, heads);
  const values = Float32Array.from(
    bytes,
    (byte, i) => (Math.max(byte, -127) / 127) * (scales[Math.floor(i / headDim)] ?? NaN),
  );
  return { words, values, scales };
}

/** Any cache: bytes of all sizes, scales that differ; from `end` on what nobody may read. */
function anyCache(shape: CacheShape, end: number, seed: number): Cache {
  const { capacity, kvHeads, headDim } = shape;
  const heads = capacity * kvHeads;
  const words = new Uint32Array((heads * (headDim + 4)) / 4);
  const bytes = new Int8Array(words.buffer, 0, heads * headDim);
  const scales = new Float32Array(words.buffer, heads * headDim);
  testNumbers(bytes.length, seed).forEach((v, i) => (bytes[i] = Math.max(-127, (v * 127) % 128)));
  testNumbers(heads, seed + 7).forEach((v, i) => (scales[i] = 0.3 + Math.abs(v)));
  bytes.fill(127, end * kvHeads * headDim);
  scales.fill(1e6, end * kvHeads);
  return read(words, shape);
}

async function readBack(gpu: Gpu, buffer: GPUBuffer, shape: CacheShape): Promise<Cache> {
  const words = await runSteps(gpu, [], 1, buffer, cacheLayout(gpu, shape).bytes / 4);
  return read(new Uint32Array(words.buffer as ArrayBuffer), shape);
}

/**
 * The largest error of heads [.., Dh] that became bytes, in halves of a unit: the scale is the
 * largest value, a unit a 127th of it. A little above 1 is what f32 makes of the turned values.
 */
function rounding(actual: Cache, expected: ArrayLike<number>, first: number, headDim: number) {
  let worst = 0;
  for (let head = 0; head * headDim < expected.length; head++) {
    const own = Array.from({ length: headDim }, (_, i) => expected[head * headDim + i] ?? NaN);
    const largest = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const scale = actual.scales[first + head] ?? NaN;
    if (!(Math.abs(scale - largest) <= largest * 1e-4)) return Infinity;
    own.forEach((value, i) => {
      const error = Math.abs((actual.values[(first + head) * headDim + i] ?? NaN) - value);
      const units = largest === 0 ? error * 1e30 : (error * 254) / largest;
      if (!(units <= worst)) worst = units;
    });
  }
  return worst;
}

const open = async (setting: GpuCase): Promise<Gpu> => {
  const gpu = await openTestGpu(setting);
  return Object.assign(gpu, { cache: 'int8' });
};

describe('a cache', () => {
  it.each([
    ['f16', 64, 68 / 128],
    ['f32', 64, 68 / 256],
    ['f16', 128, 132 / 256],
  ] as const)('of bytes beside one of %s, heads of %i: %f of the memory', async (...sizes) => {
    const [variant, headDim, share] = sizes;
    const gpu = await openTestGpu(gpuCases[0] ?? expect.fail('no adapter'));
    const elem = Object.assign(gpu, { cache: 'elem', elemBytes: variant === 'f16' ? 2 : 4 });
    const shape = { capacity: 2048, kvHeads: 2, headDim };
    const usual = cacheLayout(elem, shape);
    expect(usual).toEqual({ bytes: 2048 * 2 * headDim * elem.elemBytes, scales: 0 });
    const bytes = cacheLayout(Object.assign(gpu, { cache: 'int8' }), shape);
    expect(bytes.bytes / usual.bytes).toBe(share);
    expect(bytes.scales * 4).toBe(2048 * 2 * headDim);
  });
});

describe.each(gpuCases)('a cache of 8 bits in $title', (setting) => {
  it.each([
    [1, 8, 32, 16, 0],
    [7, 96, 12, 12, 5],
    [7, 32, 128, 64, 3],
    [3, 8, 24, 4, 9],
  ])('is written by kv_write, T=%i Q=%i KV=%i Dh=%i at %i', async (...sizes) => {
    const [tokens, queries, width, headDim, at] = sizes;
    const gpu = await open(setting);
    const shape = { capacity: 16, kvHeads: width / headDim, headDim };
    const row = queries + 2 * width;
    const qkv = testNumbers(tokens * row, 1);
    qkv.fill(0, queries, queries + headDim); // a head of zeros
    const bias = testNumbers(row, 3);
    const before = [anyCache(shape, 16, 2), anyCache(shape, 16, 5)];
    const [keys, values] = before.map(({ words }) => upload(gpu, words));
    if (keys === undefined || values === undefined) throw new Error('two caches');
    const { scales } = cacheLayout(gpu, shape);
    const bind = await createKvWrite(gpu, { queries, width, headDim, scales });
    const params = uploadParams(gpu, tokens, at);
    const step = bind({ params, qkv: upload(gpu, qkv), bias: upload(gpu, bias), keys, values });
    await runSteps(gpu, [step], tokens, keys, 1);
    for (const [part, buffer] of [keys, values].entries()) {
      const after = await readBack(gpu, buffer, shape);
      const first = at * shape.kvHeads;
      const expected = Array.from({ length: tokens * width }, (_, i) => {
        const from = queries + part * width + (i % width);
        const value = qkv[Math.floor(i / width) * row + from] ?? NaN;
        return part === 0 ? value : Math.fround(value + (bias[from] ?? 0));
      });
      expect(rounding(after, expected, first, headDim)).toBeLessThan(1.001);
      const others = (cache: Cache): number[] => [
        ...cache.values.subarray(0, at * width),
        ...cache.values.subarray((at + tokens) * width),
      ];
      expect(others(after)).toEqual(others(before[part] ?? after));
    }
  });

  it.each([
    ['the first token', { heads: 5, kvHeads: 5, headDim: 64 }, 1, 0],
    ['a chunk with heads that share keys', { heads: 6, kvHeads: 2, headDim: 12 }, 7, 30],
    [
      'tiles that are full and not, with linear biases',
      { heads: 2, kvHeads: 2, headDim: 32 },
      2,
      300,
    ],
  ] as const)('is what attention reads: %s', async (_, heads, tokens, position) => {
    const gpu = await open(setting);
    const shape = { ...heads, capacity: position + tokens + 3 };
    const slopes = position === 300 ? alibiSlopes(heads.heads) : new Float32Array(heads.heads);
    const qkv = testNumbers(tokens * (heads.heads + 2 * heads.kvHeads) * heads.headDim, 1);
    const keys = anyCache(shape, position + tokens, 2);
    const values = anyCache(shape, position + tokens, 3);
    const count = tokens * heads.heads * heads.headDim;
    const y = gpu.storage('test', count * 4);
    const { scales } = cacheLayout(gpu, shape);
    const bind = await createAttention(gpu, { ...heads, scales });
    const step = bind({
      params: uploadParams(gpu, tokens, position),
      qkv: upload(gpu, qkv),
      keys: upload(gpu, keys.words),
      values: upload(gpu, values.words),
      slopes: upload(gpu, slopes),
      y,
    });
    const actual = await runStepsElem(gpu, [step], tokens, y, count);
    const plain = { ...heads, qkv, slopes, tokens, position };
    const { out, sizes } = attentionReference({
      ...plain,
      keys: keys.values,
      values: values.values,
    });
    // Scores reach some thousands: their f32 rounding (2^-24 of that) goes through exp.
    expect(worstError(actual, out, Math.max(elemPart(gpu), 2 ** -11), sizes)).toBeLessThan(1);
  });

  it.each([
    ['the first token', { heads: 2, kvHeads: 2, headDim: 64 }, 0, 1],
    ['heads that share keys, normed', { heads: 6, kvHeads: 2, headDim: 12 }, 37, 1],
    ['slices that are full and not', { heads: 4, kvHeads: 2, headDim: 16 }, 201, 3],
  ] as const)('is read and written by attention_decode: %s', async (_, heads, position, slices) => {
    const gpu = await open(setting);
    const { heads: H, kvHeads, headDim } = heads;
    const shape = { ...heads, capacity: position + 4 };
    const qkv = testNumbers((H + 2 * kvHeads) * headDim, 1).map((value) => value / 3);
    const bias = new Float32Array(qkv.length);
    const weight = testNumbers(2 * headDim, 5).map((value) => 1 + value / 50);
    const normEps = position === 37 ? 1e-3 : null;
    const params = uploadParams(gpu, 1, position);
    const slopes = new Float32Array(H);
    const [oldKeys, oldValues] = [anyCache(shape, position, 2), anyCache(shape, position, 3)];
    const keys = upload(gpu, oldKeys.words);
    const values = upload(gpu, oldValues.words);
    const y = gpu.storage('test', H * headDim * 4);
    const partial = gpu.storage('test', H * slices * (headDim + 4) * 4);
    const { scales } = cacheLayout(gpu, shape);
    const decode = await createAttentionDecode(gpu, {
      ...heads,
      normEps,
      rotary: true,
      slices,
      scales,
    });
    const steps = [
      decode({
        params,
        qkv: upload(gpu, qkv),
        bias: upload(gpu, bias),
        weight: upload(gpu, weight),
        angles: upload(gpu, ropeTable(position + 1, headDim, 10000)),
        slopes: upload(gpu, slopes),
        keys,
        values,
        y: slices === 1 ? y : partial,
      }),
    ];
    if (slices > 1) {
      const combine = await createAttentionCombine(gpu, { heads: H, headDim, slices });
      steps.push(combine({ params, slices: partial, y }));
    }
    const actual = await runStepsElem(gpu, steps, 1, y, H * headDim);

    const turned = ropeReference({ ...heads, normEps, x: qkv, bias, weight, position }).values;
    const after = {
      keys: await readBack(gpu, keys, shape),
      values: await readBack(gpu, values, shape),
    };
    const [from, to] = [H * headDim, (H + kvHeads) * headDim];
    const first = position * kvHeads;
    expect(rounding(after.keys, turned.slice(from, to), first, headDim)).toBeLessThan(1.01);
    expect(rounding(after.values, turned.slice(to), first, headDim)).toBeLessThan(1.01);
    const before = position * kvHeads * headDim;
    expect(after.keys.values.subarray(0, before)).toEqual(oldKeys.values.subarray(0, before));
    const { out, sizes } = attentionReference({
      ...heads,
      qkv: Float32Array.from(turned),
      keys: after.keys.values,
      values: after.values.values,
      slopes,
      tokens: 1,
      position,
    });
    expect(worstError(actual, out, Math.max(elemPart(gpu) * 4, 2 ** -11), sizes)).toBeLessThan(1);
  });
});
