import { describe, expect, it, vi } from 'vitest';
import { packQ4, quantizedBlock, unpackQ4 } from '../../format/dtype.ts';
import {
  asElem,
  gpuCases,
  openTestGpu,
  runSteps,
  sumPart,
  testNumbers,
  upload,
  uploadElem,
  uploadParams,
  worstError,
} from '../testing.ts';
import { softwareTuning } from '../tuning.ts';
import { fusedCases, fusedError } from './matvec-testing.ts';
import { createMatvecQ4 } from './matvec_q4.ts';
import { matrixReference } from './reference.ts';

// Lavapipe compiles a fused kernel for many seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

/** T, N, K, where the rows go, and whether they are added there. */
const sizes = [
  [1, 7, 32, 0, 7, false],
  [7, 33, 96, 5, 40, true],
  [1, 130, 864, 0, 130, true],
  [3, 66, 320, 2, 70, false],
  [1, 20, 4160, 0, 20, false],
] as const;

describe.each(gpuCases)('matvec_q4 in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each(sizes)(
    'is W x for T=%i N=%i K=%i at row %i of %i, added: %s',
    async (tokens, rows, columns, from, outputs, add) => {
      const packed = packQ4(testNumbers(rows * columns, 1), rows, columns);
      const x = asElem(gpu, testNumbers(tokens * columns, 2));
      const before = testNumbers((tokens + 1) * outputs, 3); // one row more than the pass has
      const y = upload(gpu, before);
      const several = tokens > 1;
      const bind = await createMatvecQ4(gpu, { columns, rows, from, outputs, add }, { several });
      const weights = upload(gpu, quantizedBlock('q4', packed, rows, columns));
      const step = bind({ params: uploadParams(gpu, tokens), weights, x: uploadElem(gpu, x), y });
      const actual = await runSteps(gpu, [step], tokens, y, before.length);
      const w = unpackQ4(packed, rows, columns);
      const shape = { tokens, rows, columns, from, outputs, add };
      const end = tokens * outputs;
      const { values, sizes } = matrixReference(w, x, before.subarray(0, end), shape);
      expect(worstError(actual.subarray(0, end), values, sumPart, sizes)).toBeLessThan(1);
      expect(actual.subarray(end)).toEqual(before.subarray(end));
    },
  );
});

describe.each(gpuCases)('matvec_q4 in $title, with', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each(fusedCases)('%s', async (_, shape) => {
    expect(await fusedError(gpu, shape)).toBeLessThan(1);
  });

  it('refuses a gate without its half', async () => {
    const shape = { columns: 32, rows: 7, from: 0, outputs: 7, add: false };
    await expect(createMatvecQ4(gpu, shape, { silu: true })).rejects.toThrow('even rows');
  });
});

it('matvec_q4 folds more workgroups than one dimension holds', async () => {
  const gpu = await openTestGpu({
    title: '',
    variant: 'f32',
    tuning: softwareTuning,
  });
  const [rows, columns] = [2 ** 21 + 4, 32];
  const weights = gpu.storage('test', (rows * columns) / 2 + rows * 2);
  const last = packQ4(testNumbers(4 * columns, 4), 4, columns); // all other rows are zero
  gpu.device.queue.writeBuffer(weights, (rows - 4) * (columns / 2), last.q);
  gpu.device.queue.writeBuffer(weights, (rows * columns) / 2 + (rows - 4) * 2, last.scale);
  const x = testNumbers(columns, 5);
  const y = gpu.storage('test', rows * 4);
  const bind = await createMatvecQ4(gpu, { columns, rows, from: 0, outputs: rows, add: false });
  const step = bind({ params: uploadParams(gpu, 1), weights, x: upload(gpu, x), y });
  expect(step.grid.y).toBeGreaterThan(1);
  const actual = await runSteps(gpu, [step], 1, y, rows);
  const w = unpackQ4(last, 4, columns);
  const shape = { tokens: 1, rows: 4, columns, from: 0, outputs: 4, add: false };
  const { values, sizes } = matrixReference(w, x, new Float32Array(4), shape);
  expect(worstError(actual.slice(-4), values, sumPart, sizes)).toBeLessThan(1);
});
