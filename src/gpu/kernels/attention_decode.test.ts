import { describe, expect, it, vi } from 'vitest';
import {
  asElem,
  elemPart,
  gpuCases,
  openTestGpu,
  runStepsElem,
  testNumbers,
  upload,
  uploadElem,
  uploadParams,
  worstError,
  type GpuCase,
} from '../testing.ts';
import { attentionReference, ropeReference } from './attention-reference.ts';
import { alibiSlopes } from './attention.ts';
import { createAttentionCombine } from './attention_combine.ts';
import { createAttentionDecode, type AttentionDecodeShape } from './attention_decode.ts';
import { ropeTable } from './rope.ts';

// Lavapipe compiles a fused kernel for many seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

interface Inputs extends AttentionDecodeShape {
  readonly position: number;
  readonly biased: boolean;
}

/** What every head becomes, in double precision: bias, norm and rotation, the value's bias. */
function expectedHeads(
  { heads, kvHeads, headDim, normEps, rotary, position }: Inputs,
  qkv: Float32Array,
  bias: Float32Array,
  weight: Float32Array,
): Float64Array {
  const x = qkv.slice();
  const turned = (heads + kvHeads) * headDim;
  for (let i = turned; i < x.length; i++) x[i] = (x[i] ?? 0) + (bias[i] ?? 0);
  const shape = { heads, kvHeads, headDim, normEps };
  return ropeReference({ ...shape, x, bias, weight, position, rotary }).values;
}

/** Runs the kernels and returns how far attention and both caches are from plain loops. */
async function compare(setting: GpuCase, inputs: Inputs) {
  const gpu = await openTestGpu(setting);
  const { heads, kvHeads, headDim, position, biased, rotary, slices } = inputs;
  const row = (heads + 2 * kvHeads) * headDim;
  const width = kvHeads * headDim;
  const qkv = testNumbers(row, 1).map((value) => value / 3);
  const bias = testNumbers(row, 4).map((value) => (biased ? value / 20 : 0));
  const weight = testNumbers(2 * headDim, 5).map((value) => 1 + value / 50);
  const slopes = rotary ? new Float32Array(heads) : alibiSlopes(heads);
  const cached = (position + 4) * width; // from `position` on it is rubbish that nobody may read
  const keys = asElem(gpu, testNumbers(cached, 2)).map((value) => value / 5);
  const values = asElem(gpu, testNumbers(cached, 3));
  const keyCache = asElem(gpu, keys).fill(1e4, position * width);
  const valueCache = values.fill(1e4, position * width);
  const buffers = {
    params: uploadParams(gpu, 1, position),
    qkv: upload(gpu, qkv),
    bias: upload(gpu, bias),
    weight: upload(gpu, weight),
    angles: rotary ? upload(gpu, ropeTable(position + 1, headDim, 10000)) : null,
    slopes: upload(gpu, slopes),
    keys: uploadElem(gpu, keyCache),
    values: uploadElem(gpu, valueCache),
  };
  const y = gpu.storage('test', heads * headDim * 4);
  const partial = gpu.storage('test', heads * slices * (headDim + 4) * 4);
  const decode = await createAttentionDecode(gpu, inputs);
  const steps = [decode({ ...buffers, y: slices === 1 ? y : partial })];
  if (slices > 1) {
    const combine = await createAttentionCombine(gpu, inputs);
    steps.push(combine({ params: buffers.params, slices: partial, y }));
  }
  const actual = await runStepsElem(gpu, steps, 1, y, heads * headDim);

  const all = Float32Array.from(expectedHeads(inputs, qkv, bias, weight));
  const [keysFrom, valuesFrom] = [heads * headDim, (heads + kvHeads) * headDim];
  const newKeys = all.slice(keysFrom, valuesFrom);
  const newValues = all.slice(valuesFrom);
  keyCache.set(asElem(gpu, newKeys), position * width);
  valueCache.set(asElem(gpu, newValues), position * width);
  const plain = { heads, kvHeads, headDim, tokens: 1, position, slopes };
  const { out, sizes } = attentionReference({
    ...plain,
    qkv: all,
    keys: keyCache,
    values: valueCache,
  });
  const cacheError = async (buffer: GPUBuffer, expected: Float32Array): Promise<number> => {
    const written = await runStepsElem(gpu, [], 1, buffer, expected.length);
    // A turned key is a difference of two products of its head's values.
    const size = Float64Array.from(expected, (value) => Math.abs(value) + 20);
    return worstError(written, expected, elemPart(gpu), size);
  };
  return {
    // Scores reach some hundreds: their f32 rounding (2^-24 of that) goes through exp.
    y: worstError(actual, out, Math.max(elemPart(gpu) * 4, 2 ** -13), sizes),
    keys: await cacheError(buffers.keys, keyCache),
    values: await cacheError(buffers.values, valueCache),
  };
}

const plain = { normEps: null, rotary: true, biased: false, slices: 1 };
type Case = readonly [title: string, Inputs];
const cases: readonly Case[] = [
  ['the first token', { ...plain, heads: 5, kvHeads: 5, headDim: 64, position: 0 }],
  ['the first token of a long cache', { ...plain, heads: 2, kvHeads: 1, headDim: 32, position: 0, slices: 8 }], // prettier-ignore
  ['several tiles', { ...plain, heads: 2, kvHeads: 2, headDim: 32, position: 601 }],
  ['heads that share keys, biased', { ...plain, heads: 6, kvHeads: 2, headDim: 16, position: 37, biased: true }], // prettier-ignore
  ['heads of 4', { ...plain, heads: 3, kvHeads: 1, headDim: 4, position: 254 }],
  ['heads of 12, normed and biased', { ...plain, heads: 4, kvHeads: 2, headDim: 12, position: 9, normEps: 1e-3, biased: true }], // prettier-ignore
  ['linear biases', { ...plain, heads: 6, kvHeads: 6, headDim: 16, position: 71, rotary: false }],
  ['slices that are all full', { ...plain, heads: 3, kvHeads: 3, headDim: 16, position: 256, slices: 4 }], // prettier-ignore
  ['a slice that just begins', { ...plain, heads: 3, kvHeads: 3, headDim: 16, position: 65, slices: 4 }], // prettier-ignore
  ['slices over many positions', { ...plain, heads: 4, kvHeads: 2, headDim: 16, position: 1237, slices: 3, normEps: 1e-5 }], // prettier-ignore
  [
    'teams of four and of three',
    { ...plain, heads: 14, kvHeads: 2, headDim: 32, position: 333, slices: 2 },
  ],
  [
    'more heads than a team takes, evenly',
    { ...plain, heads: 12, kvHeads: 2, headDim: 16, position: 41, rotary: false },
  ],
  ['slices with linear biases', { ...plain, heads: 6, kvHeads: 2, headDim: 32, position: 700, slices: 7, rotary: false }], // prettier-ignore
];

describe.each(gpuCases)('attention_decode in $title', (setting) => {
  it.each(cases)('agrees with plain loops for %s', async (_, inputs) => {
    const { tuning } = setting;
    // Cuts for a GPU leave teams out; here they run as well.
    const teams = inputs.heads > 2 * inputs.kvHeads ? { ...tuning, attentionTeam: 4 } : tuning;
    const errors = await compare({ ...setting, tuning: teams }, inputs);
    expect(
      Object.values(errors).every((error) => error < 1),
      JSON.stringify(errors),
    ).toBe(true);
  });
});
