import { describe, expect, it } from 'vitest';
import { packQ8, quantizedBlock, unpackQ8 } from '../../format/dtype.ts';
import { gpuCases, openTestGpu, runSteps, testNumbers, upload } from '../testing.ts';
import { createEmbedQ8 } from './embed_q8.ts';

describe.each(gpuCases)('embed_q8 in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each([
    [1, 32],
    [7, 96],
    [3, 864],
  ])('gathers exact rows from both blocks of a table, T=%i K=%i', async (tokens, width) => {
    const [vocab, cut] = [21, 9];
    const ids = Uint32Array.from({ length: tokens }, (_, t) => [20, 0, 8, 9, 13, 1, 20][t] ?? 0);
    const table = testNumbers(vocab * width, 1);
    const x = gpu.storage('test', tokens * width * 4);
    const steps = [];
    const expected = new Float32Array(tokens * width);
    for (const [from, to] of [
      [0, cut],
      [cut, vocab],
    ] as const) {
      const rows = to - from;
      const packed = packQ8(table.slice(from * width, to * width), rows, width);
      const values = unpackQ8(packed, rows, width);
      ids.forEach((id, t) => {
        if (id < from || id >= to) return;
        expected.set(values.subarray((id - from) * width, (id - from + 1) * width), t * width);
      });
      const bind = await createEmbedQ8(gpu, { width, rows, from });
      const block = upload(gpu, quantizedBlock('q8', packed, rows, width));
      steps.push(bind({ tokens: upload(gpu, ids), table: block, x }));
    }
    expect(await runSteps(gpu, steps, tokens, x, tokens * width)).toEqual(expected);
  });
});
