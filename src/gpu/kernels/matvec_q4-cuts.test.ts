import { describe, expect, it, vi } from 'vitest';
import { packQ4, quantizedBlock, unpackQ4 } from '../../format/dtype.ts';
import { matvecCuts } from '../matvec-cuts.ts';
import {
  gpuCases,
  openNullGpu,
  openTestGpu,
  runSteps,
  testNumbers,
  upload,
  uploadParams,
  worstError,
} from '../testing.ts';
import { gpuTuning } from '../tuning.ts';
import { fusedCases, fusedError } from './matvec-testing.ts';
import { createMatvecQ4 } from './matvec_q4.ts';

/** Every way of running matvec_q4 that a calibration may choose, on every shape of its own tests. */

// Lavapipe compiles a fused kernel for many seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 300_000 });

/** Software subgroups have 4 or 8 lanes: a team of 32 lanes uses workgroup memory beside them. */
const subgroup = 4;

describe.each(gpuCases.filter(({ tuning }) => tuning.rowLanes > 1))(
  'matvec_q4 in $title',
  ({ variant, tuning, title }) => {
    describe.each(matvecCuts(tuning.matvec, subgroup, true).slice(1))(
      'as $title',
      async ({ cut }) => {
        const gpu = await openTestGpu({ title, variant, tuning: { ...tuning, matvec: cut } });

        // Lavapipe, the driver of f16, compiles each for seconds: the shape with everything in it is enough.
        it.each(variant === 'f16' ? fusedCases.slice(3, 4) : fusedCases)(
          'with %s',
          async (_, shape) => {
            expect(await fusedError(gpu, shape)).toBeLessThan(1);
          },
        );
      },
    );
  },
);

describe('activations of 8 bits', async () => {
  const cut = { lanes: 8, workgroup: 64, subgroup: 1, int8: true };
  const setting = { title: '', variant: 'f32', tuning: { ...gpuTuning, matvec: cut } } as const;
  const gpu = await openTestGpu(setting);

  /** W x on the GPU for whole numbers x, of which each group of 32 reaches 127 or is zero. */
  const product = async (columns: number, x: Float32Array<ArrayBuffer>, rows = 9) => {
    const packed = packQ4(testNumbers(rows * columns, 1), rows, columns);
    const y = gpu.storage('test', rows * 4);
    const bind = await createMatvecQ4(gpu, { columns, rows, from: 0, outputs: rows, add: false });
    const weights = upload(gpu, quantizedBlock('q4', packed, rows, columns));
    const params = uploadParams(gpu, 1);
    const step = bind({ params, weights, x: upload(gpu, x), y });
    const actual = await runSteps(gpu, [step], 1, y, rows);
    const w = unpackQ4(packed, rows, columns);
    const terms = Array.from({ length: rows }, (_, n) =>
      Array.from(x, (value, k) => value * (w[n * columns + k] ?? 0)),
    );
    const expected = terms.map((row) => row.reduce((sum, term) => sum + term, 0));
    const sizes = terms.map((row) => row.reduce((sum, term) => sum + Math.abs(term), 0));
    return worstError(actual, expected, 2 ** -20, sizes);
  };

  // 224 groups are staged at a time: 7,168 columns in one go, 14,400 in three.
  it.each([32, 96, 7168, 14400])(
    'lose nothing of whole numbers up to 127, K=%i',
    async (columns) => {
      const x = Float32Array.from({ length: columns }, (_, k) =>
        k % 32 === 5 ? 127 : ((k * 37) % 255) - 127,
      );
      expect(await product(columns, x)).toBeLessThan(1);
    },
  );

  it('are zeros for groups of zeros', async () => {
    const x = Float32Array.from({ length: 96 }, (_, k) =>
      k < 32 || k >= 64 ? 0 : k === 40 ? -127 : 3,
    );
    expect(await product(96, x)).toBeLessThan(1);
    expect(await product(96, new Float32Array(96))).toBe(0);
  });

  it('are refused where WGSL has no product of bytes', async () => {
    const without = await openNullGpu({ variant: 'f32', tuning: setting.tuning });
    const kernel = vi.spyOn(without, 'language', 'get').mockReturnValue(new Set());
    const shape = { columns: 32, rows: 4, from: 0, outputs: 4, add: false };
    await expect(createMatvecQ4(without, shape)).rejects.toThrow('packed_4x8');
    kernel.mockRestore();
  });
});
