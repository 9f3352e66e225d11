import { describe, expect, it } from 'vitest';
import {
  asElem,
  asHalf,
  gpuCases,
  openTestGpu,
  runSteps,
  testNumbers,
  uploadElem,
  uploadHalf,
  worstError,
} from '../testing.ts';
import { createAdapterRoute } from './adapter_route.ts';

describe.each(gpuCases)('adapter_route in $title', async (setting) => {
  const gpu = await openTestGpu(setting);

  it.each([
    [1, 32, 2, 4],
    [7, 96, 1, 2], // one specific expert: its gate is always 1
    [7, 96, 3, 20], // more experts than lanes
    [3, 864, 1, 4],
  ])(
    'is 1 and a softmax, scaled, T=%i K=%i S=%i E=%i',
    async (tokens, columns, linears, experts) => {
      const scale = 2;
      const specific = experts - 1;
      const router = asHalf(testNumbers(linears * specific * columns, 1).map((v) => v / 20));
      const x = asElem(
        gpu,
        testNumbers(tokens * columns, 2).map((v) => v / 20),
      );
      const gates = gpu.storage('test', tokens * linears * experts * 4);
      const bind = await createAdapterRoute(gpu, { columns, linears, experts, scale });
      const step = bind({ router: uploadHalf(gpu, router), x: uploadElem(gpu, x), gates });
      const actual = await runSteps(gpu, [step], tokens, gates, tokens * linears * experts);
      const expected: number[] = [];
      for (let t = 0; t < tokens; t++) {
        for (let s = 0; s < linears; s++) {
          const scores = Array.from({ length: specific }, (_, e) => {
            const row = router.subarray((s * specific + e) * columns).subarray(0, columns);
            return row.reduce((sum, value, k) => sum + value * (x[t * columns + k] ?? 0), 0);
          });
          const weights = scores.map((score) => Math.exp(score - Math.max(...scores)));
          const total = weights.reduce((sum, weight) => sum + weight, 0);
          expected.push(scale, ...weights.map((weight) => (scale * weight) / total));
        }
      }
      // Scores reach about a hundred: their f32 rounding goes through exp.
      expect(worstError(actual, expected, 2 ** -13)).toBeLessThan(1);
    },
  );
});
