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
  /** Steps at each, by turns of `TURN`. */
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
/** Prefills of each way that are measured. */
const PREFILLS = 3;

/** A way with its model, its caches and what was measured. */
interface Contender {
  readonly variant: GpuDevice['variant'];
  readonly cache: CacheType;
  readonly gpu: GpuDevice;
  readonly model: Model;
  readonly few: Uint8Array<ArrayBuffer>;
  readonly many: Uint8Array<ArrayBuffer>;
  readonly ms: { readonly prefill: number[]; readonly short: number[]; readonly long: number[] };
}

/**
 * All ways by turns, so that what else the machine does meets them alike: every model is loaded at once.
 * @throws Failure NoWebGpu, DeviceLimit; RangeError for contexts that do not fit
 */
export async function benchContexts(options: ContextBenchOptions): Promise<ContextBench> {
  const { manifest, short, long, steps, log } = options;
  if (short >= long || long + steps + 1 > manifest.config.capacity) {
    throw new RangeError(`${short} and ${long} tokens in a cache of ${manifest.config.capacity}`);
  }
  const found = await findGpu();
  const hasF16 = (await found.gpu.requestAdapter())?.features.has('shader-f16') === true;
  const contenders: Contender[] = [];
  for (const [variant, cache] of hasF16 ? ways : ways.filter(([type]) => type === 'f32')) {
    contenders.push(await load(found.gpu, variant, cache, options));
  }
  for (let i = 0; i < PREFILLS; i++) {
    for (const one of turnsOf(contenders, i)) await prefill(one, short);
  }
  for (let i = 0; i * TURN < steps; i++) {
    for (const one of turnsOf(contenders, i)) await decodeBoth(one, short, long);
  }
  const cases = contenders.map((one) => speedOf(one, short));
  for (const { variant, cache, short: fast, ratio } of cases) {
    log(
      `${variant}, cache ${cache}: ${fast} tokens/s after ${short}, ${ratio} of that after ${long}`,
    );
  }
  for (const { model, gpu } of contenders) {
    model.dispose();
    gpu.device.destroy();
  }
  found.release();
  return { adapter: contenders[0]?.gpu.adapterName ?? '', driver: found.driver, cases };
}

/** There and back. */
function turnsOf(contenders: readonly Contender[], round: number): readonly Contender[] {
  return round % 2 === 0 ? contenders : contenders.toReversed();
}

async function load(
  entry: GPU,
  variant: GpuDevice['variant'],
  cache: CacheType,
  { manifest, read, short, long, log }: ContextBenchOptions,
): Promise<Contender> {
  const usual = await requestGpu(entry, { variant, cache });
  // In software every way of running a kernel takes seconds to compile, and the usual is good.
  const gpu =
    usual.tuning.rowLanes === 1
      ? usual
      : (await calibrateOnDisk(usual, manifest.config, { note: log })).gpu;
  log(`${gpu.adapterName}, ${variant}, cache ${cache}: loading`);
  const model = await Model.load(gpu, manifest, read);
  // Software drivers compile at the first pass of each kind.
  await model.prefill(benchPrompt(model.config.vocab, Math.min(short, gpu.tuning.chunk)));
  await model.decode(1);
  model.truncate(0);
  await model.prefill(benchPrompt(model.config.vocab, short));
  const few = await model.readCache(short);
  const many = repeated(few, manifest, cache, short, long);
  const ms = { prefill: [], short: [], long: [] };
  return { variant, cache, gpu, model, few, many, ms };
}

async function prefill({ model, ms }: Contender, tokens: number): Promise<void> {
  model.truncate(0);
  const start = performance.now();
  await model.prefill(benchPrompt(model.config.vocab, tokens));
  ms.prefill.push(performance.now() - start);
}

/** Steps after many tokens and after few. */
async function decodeBoth(
  { model, few, many, ms }: Contender,
  short: number,
  long: number,
): Promise<void> {
  for (const [rows, tokens, times] of [
    [many, long, ms.long],
    [few, short, ms.short],
  ] as const) {
    model.writeCache(rows, tokens);
    await model.decode(1); // with it the rows arrive
    for (let i = 0; i < TURN; i++) {
      const before = performance.now();
      await model.decode(i + 2);
      times.push(performance.now() - before);
    }
  }
}

function speedOf({ variant, cache, ms }: Contender, tokens: number): ContextSpeed {
  const [fast, slow] = [median(ms.short), median(ms.long)];
  return {
    variant,
    cache,
    prefill: round((tokens * 1000) / median(ms.prefill)),
    short: round(1000 / fast),
    long: round(1000 / slow),
    ratio: round(fast / slow),
    samples: { short: ms.short, long: ms.long },
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? NaN;
}
