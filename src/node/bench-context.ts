import type { Manifest } from '../format/manifest.ts';
import { requestGpu, type GpuDevice } from '../gpu/device.ts';
import type { CacheType } from '../gpu/prelude.ts';
import { Model } from '../model/model.ts';
import { benchPrompt, repeated, round } from './bench-work.ts';
import { findGpu } from './device.ts';
import { calibrateOnDisk } from './kernels.ts';

/** Decoding after few and after many tokens, by types of what is stored and of what is kept. */

export interface ContextBenchOptions {
  readonly manifest: Manifest;
  readonly read: (file: string) => Promise<Uint8Array>;
  /** Tokens in the cache: few, which are also the prompt, and many. */
  readonly short: number;
  readonly long: number;
  /** Steps at each, by turns in pairs of `TURN`. */
  readonly steps: number;
  readonly log: (line: string) => void;
}

export interface ContextSpeed {
  readonly variant: GpuDevice['variant'];
  readonly cache: CacheType;
  readonly prefill: number; // tokens a second, of the short context
  readonly short: number; // decode, tokens a second
  readonly long: number;
  /** Speed after many tokens as a part of that after few, in the same minute. */
  readonly ratio: number;
  /** Milliseconds of every step. */
  readonly samples: { readonly short: readonly number[]; readonly long: readonly number[] };
}

export interface ContextBench {
  readonly adapter: string;
  readonly driver: string;
  /** f16 is left out where the adapter does not have it. */
  readonly cases: readonly ContextSpeed[];
}

/** Activations, and a cache of their type or of 8 bits. */
const ways = [
  ['f32', 'elem'],
  ['f32', 'int8'],
  ['f16', 'elem'],
] as const;

/** Steps at one context before it is the other one's turn. */
const TURN = 2;

/** @throws Failure NoWebGpu, DeviceLimit; RangeError for contexts that do not fit */
export async function benchContexts(options: ContextBenchOptions): Promise<ContextBench> {
  const { manifest, short, long, steps, log } = options;
  if (short >= long || long + steps + 1 > manifest.config.capacity) {
    throw new RangeError(`${short} and ${long} tokens in a cache of ${manifest.config.capacity}`);
  }
  const found = await findGpu();
  const hasF16 = (await found.gpu.requestAdapter())?.features.has('shader-f16') === true;
  const cases: ContextSpeed[] = [];
  let adapter = '';
  for (const [variant, cache] of hasF16 ? ways : ways.filter(([type]) => type === 'f32')) {
    const usual = await requestGpu(found.gpu, { variant, cache });
    adapter = usual.adapterName;
    // In software every way of running a kernel takes seconds to compile, and the usual is good.
    const gpu =
      usual.tuning.rowLanes === 1
        ? usual
        : (await calibrateOnDisk(usual, manifest.config, { note: log })).gpu;
    log(`${adapter}, ${variant}, cache ${cache}: loading`);
    const model = await Model.load(gpu, manifest, options.read);
    cases.push({ variant, cache, ...(await measure(model, gpu, options)) });
    const { ratio, short: few } = cases.at(-1) ?? { ratio: NaN, short: NaN };
    log(`${few} tokens/s after ${short}, ${ratio} of that after ${long}`);
    model.dispose();
    gpu.device.destroy();
  }
  found.release();
  return { adapter, driver: found.driver, cases };
}

async function measure(
  model: Model,
  { cache, tuning }: GpuDevice,
  { manifest, short, long, steps }: ContextBenchOptions,
): Promise<Omit<ContextSpeed, 'variant' | 'cache'>> {
  // Software drivers compile at the first pass of each kind.
  await model.prefill(benchPrompt(model.config.vocab, Math.min(short, tuning.chunk)));
  await model.decode(1);
  model.truncate(0);
  const start = performance.now();
  await model.prefill(benchPrompt(model.config.vocab, short));
  const prefill = (short * 1000) / (performance.now() - start);
  const few = await model.readCache(short);
  const many = repeated(few, manifest, cache, short, long);
  const samples = { short: [] as number[], long: [] as number[] };
  while (samples.short.length < steps) {
    for (const [rows, tokens, ms] of [
      [many, long, samples.long],
      [few, short, samples.short],
    ] as const) {
      model.writeCache(rows, tokens);
      await model.decode(1); // with it the rows arrive
      for (let i = 0; i < TURN; i++) {
        const before = performance.now();
        await model.decode(i + 2);
        ms.push(performance.now() - before);
      }
    }
  }
  const [fast, slow] = [median(samples.short), median(samples.long)];
  return {
    prefill: round(prefill),
    short: round(1000 / fast),
    long: round(1000 / slow),
    ratio: round(fast / slow),
    samples,
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? NaN;
}
