import { describe, expect, it } from 'vitest';
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
import { attentionReference } from './attention-reference.ts';
import { alibiSlopes, createAttention, type AttentionShape } from './attention.ts';

async function compare(
  setting: GpuCase,
  shape: AttentionShape,
  tokens: number,
  position: number,
  slopes = new Float32Array(shape.heads),
) {
  const gpu = await openTestGpu(setting);
  const { heads, kvHeads, headDim } = shape;
  const cached = (position + tokens + 3) * kvHeads * headDim; // beyond is rubbish nobody may read
  const qkv = testNumbers(tokens * (heads + 2 * kvHeads) * headDim, 1);
  const keys = asElem(
    gpu,
    testNumbers(cached, 2).map((value) => value / 5),
  );
  const values = asElem(gpu, testNumbers(cached, 3));
  const end = (position + tokens) * kvHeads * headDim;
  keys.fill(1e4, end);
  values.fill(1e4, end);
  const y = gpu.storage('test', tokens * heads * headDim * 4);
  const bind = await createAttention(gpu, shape);
  const step = bind({
    params: uploadParams(gpu, tokens, position),
    qkv: upload(gpu, qkv),
    keys: uploadElem(gpu, keys),
    values: uploadElem(gpu, values),
    slopes: upload(gpu, slopes),
    y,
  });
  const actual = await runStepsElem(gpu, [step], tokens, y, tokens * heads * headDim);
  const { out, sizes } = attentionReference({
    ...shape,
    qkv,
    keys,
    values,
    slopes,
    tokens,
    position,
  });
  // Scores reach some hundreds: their f32 rounding (2^-24 of that) goes through exp.
  return worstError(actual, out, Math.max(elemPart(gpu), 2 ** -13), sizes);
}

type Shape = readonly [title: string, AttentionShape, tokens: number, position: number];
const shapes: readonly Shape[] = [
  ['the first token', { heads: 5, kvHeads: 5, headDim: 64 }, 1, 0],
  ['a chunk with heads that share keys', { heads: 6, kvHeads: 2, headDim: 32 }, 7, 30],
  ['tiles that are full and not', { heads: 2, kvHeads: 2, headDim: 32 }, 2, 600],
  ['tokens by fours', { heads: 2, kvHeads: 1, headDim: 8 }, 8, 3],
  ['heads of 4', { heads: 3, kvHeads: 1, headDim: 4 }, 7, 254],
];
/** Of the size of 7B and 13B. */
const wide: Shape = ['heads of 128', { heads: 2, kvHeads: 2, headDim: 128 }, 3, 300];

const sloped: readonly Shape[] = [
  ['one token', { heads: 6, kvHeads: 6, headDim: 16 }, 1, 40],
  ['a chunk over several tiles', { heads: 6, kvHeads: 2, headDim: 32 }, 7, 600],
];

describe.each(gpuCases)('attention in $title', (setting) => {
  // Lavapipe, the driver of f16, compiles each shape for many seconds.
  const isQuick = setting.variant === 'f32';
  const fitting = isQuick ? [...shapes, wide] : shapes.slice(0, 2);
  const distant = isQuick ? sloped : sloped.slice(1);

  it.each(fitting)('agrees with plain softmax for %s', async (_, shape, tokens, position) => {
    expect(await compare(setting, shape, tokens, position)).toBeLessThan(1);
  });

  it.each(distant)('takes the distance from scores for %s', async (_, shape, tokens, position) => {
    const slopes = alibiSlopes(shape.heads);
    expect(await compare(setting, shape, tokens, position, slopes)).toBeLessThan(1);
  });
});

describe('slopes of linear biases', () => {
  it.each([
    [1, [2 ** -8]],
    [4, [2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8]],
    [6, [2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8, 2 ** -1, 2 ** -3]],
  ])('are those of Bloom for %i heads', (heads, expected) => {
    expect([...alibiSlopes(heads)]).toEqual(expected);
  });

  it("are Baichuan2-13B's for 40 heads", () => {
    const slopes = alibiSlopes(40);
    const first = Array.from({ length: 32 }, (_, i) => Math.fround(2 ** (-(i + 1) / 4)));
    const rest = Array.from({ length: 8 }, (_, i) => Math.fround(2 ** (-(2 * i + 1) / 8)));
    expect([...slopes]).toEqual([...first, ...rest]);
  });
});
