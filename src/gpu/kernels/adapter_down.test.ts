import { describe, expect, it } from 'vitest';
import {
  asElem,
  gpuCases,
  openTestGpu,
  runSteps,
  sumPart,
  testNumbers,
  upload,
  uploadElem,
  uploadFactor,
  worstError,
} from '../testing.ts';
import { createAdapterDown } from './adapter_down.ts';
import { matrixReference } from './reference.ts';

describe.each(gpuCases)('adapter_down in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each([
    [1, 32, 2, 4, 8, 32, false, false],
    [7, 96, 1, 3, 1, 4, true, false],
    [7, 96, 3, 3, 2, 8, true, false],
    [1, 864, 1, 4, 8, 32, false, false],
    [1, 96, 3, 3, 3, 12, false, true],
    [3, 320, 1, 4, 8, 32, false, true],
  ])(
    'is gates * units * (A x), T=%i K=%i S=%i E=%i R=%i P=%i, routed: %s, weighed: %s',
    async (tokens, columns, linears, experts, rank, padded, routed, weighed) => {
      const rows = linears * experts * rank;
      const a = uploadFactor(gpu, testNumbers(rows * columns, 1), rows, 'rows');
      const numbers = testNumbers(tokens * columns, 2);
      const x = weighed ? numbers : asElem(gpu, numbers);
      const weight = testNumbers(columns, 4);
      const gates = testNumbers((routed ? tokens : 1) * linears * experts, 3);
      const z = gpu.storage('test', tokens * linears * padded * 4);
      const shape = { columns, linears, experts, rank, padded, routed, weighed };
      const bind = await createAdapterDown(gpu, shape);
      const step = bind({
        a: a.buffer,
        x: weighed ? upload(gpu, x) : uploadElem(gpu, x),
        weight: upload(gpu, weight),
        gates: upload(gpu, gates),
        units: upload(gpu, a.units),
        z,
      });
      const actual = await runSteps(gpu, [step], tokens, z, tokens * linears * padded);
      const plain = { tokens, rows, columns, from: 0, outputs: rows, add: false };
      const input = x.map((value, i) => value * (weighed ? (weight[i % columns] ?? 0) : 1));
      const product = matrixReference(a.kept, input, new Float32Array(tokens * rows), plain);
      const expected = new Float64Array(actual.length); // padding stays zero
      const sizes = new Float64Array(actual.length);
      for (let t = 0; t < tokens; t++) {
        for (let row = 0; row < rows; row++) {
          const linear = Math.floor(row / (experts * rank));
          const j = row % (experts * rank);
          const token = routed ? t * linears * experts : 0;
          const gate = gates[token + linear * experts + Math.floor(j / rank)] ?? 0;
          const at = (t * linears + linear) * padded + j;
          expected[at] = gate * (product.values[t * rows + row] ?? 0);
          sizes[at] = gate * (product.sizes[t * rows + row] ?? 0);
        }
      }
      expect(worstError(actual, expected, sumPart, sizes)).toBeLessThan(1);
    },
  );
});
