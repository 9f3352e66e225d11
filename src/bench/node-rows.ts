import { cpus, release } from 'node:os';
import process from 'node:process';
import type { NodeBench } from '../node/bench.ts';
import type { ContextBench, ContextSpeed } from '../node/bench-context.ts';
import { rateRow, timeRow, type BenchResult, type Row } from './rows.ts';

/** A run in Node as rows: the peer is the machine's own limit, the ratio a part of it. */
export function nodeResult(
  bench: NodeBench,
  model: BenchResult['model'],
  command: string,
): BenchResult {
  const { peaks, kernels } = bench;
  const rows: Row[] = [
    ...bench.decode.map(({ context, tokensPerSecond }) =>
      rateRow(`decode after ${context} tokens`, 'tokens/s', tokensPerSecond),
    ),
    ...bench.prefill.map(({ tokens, tokensPerSecond }) =>
      rateRow(`prefill of ${tokens} tokens`, 'tokens/s', tokensPerSecond),
    ),
    rateRow('matrices of the longest prefill', 'TFLOP/s', bench.prefillTflops, peaks.f32Gflops / 1000, 'f32 multiply-adds'), // prettier-ignore
    timeRow('switch of the task, until its gates are queued', bench.taskSwitchMs),
    { ...timeRow('a dispatch that does nothing', peaks.dispatchUs), unit: 'us' },
  ];
  for (const pass of [kernels.decode, kernels.prefill]) {
    for (const { kind, share, ms, gbs, gflops } of pass?.kinds ?? []) {
      if (pass === null || share < 0.01) continue;
      const what = pass.tokens === 1 ? 'decode' : `prefill of ${pass.tokens}`;
      const name = `${what}: ${kind}, ${Math.round(100 * share)} % of its time`;
      if (gbs === null || gflops === null) rows.push(timeRow(name, ms));
      else if (gbs / peaks.readGBs > gflops / peaks.f32Gflops) {
        rows.push(rateRow(name, 'GB/s', gbs, peaks.readGBs, 'reading'));
      } else rows.push(rateRow(name, 'GFLOP/s', gflops, peaks.f32Gflops, 'f32 multiply-adds'));
    }
  }
  return {
    date: new Date().toISOString(),
    machine: {
      ...thisMachine(),
      gpu: `${bench.driver}, ${bench.variant}`,
      cache: bench.cache === 'int8' ? '8 bits' : bench.variant,
      reads: `${peaks.readGBs} GB/s`,
      computes: `${peaks.f32Gflops} GFLOP/s`,
    },
    model: { package: bench.package, ...model },
    command,
    differences: {},
    rows,
    samples: {},
  };
}

/** Decoding after few and many tokens as rows: f16 beside f32, and each beside itself. */
export function contextResult(
  { driver, cases }: ContextBench,
  { short, long }: { readonly short: number; readonly long: number },
  model: BenchResult['model'],
  command: string,
): BenchResult {
  const rows = cases.flatMap((one): Row[] => {
    const { variant, cache } = one;
    const title = `${variant}${cache === 'int8' ? ', cache of 8 bits' : ''}`;
    const plain = cases.find((other) => other.variant === 'f32' && other.cache === 'elem');
    const rate = (name: string, of: (speed: ContextSpeed) => number): Row =>
      variant === 'f16' && cache === 'elem' && plain !== undefined
        ? rateRow(name, 'tokens/s', of(one), of(plain), 'f32')
        : rateRow(name, 'tokens/s', of(one));
    return [
      rate(`decode after ${short} tokens, ${title}`, (speed) => speed.short),
      rateRow(`decode after ${long} tokens, ${title}`, 'tokens/s', one.long),
      rateRow(`decode after ${long} as a part of that after ${short}, ${title}`, 'x', one.ratio),
      rate(`prefill of ${short} tokens, ${title}`, (speed) => speed.prefill),
    ];
  });
  const samples = cases.flatMap(({ variant, cache, samples: ms }) => [
    [`${variant} ${cache} decode ${short}`, ms.short] as const,
    [`${variant} ${cache} decode ${long}`, ms.long] as const,
  ]);
  return {
    date: new Date().toISOString(),
    machine: { ...thisMachine(), gpu: driver },
    model,
    command,
    differences: {},
    rows,
    samples: Object.fromEntries(samples),
  };
}

function thisMachine(): Record<'cpu' | 'system', string> {
  const [cpu] = cpus();
  return {
    cpu: `${cpus().length} x ${cpu?.model ?? 'unknown'}`,
    system: `${process.platform} ${release()}, Node ${process.version}`,
  };
}
