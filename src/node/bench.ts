import type { Manifest } from '../format/manifest.ts';
import type { CutTimes } from '../gpu/calibration-store.ts';
import { requestGpu, type GpuDevice } from '../gpu/device.ts';
import type { CacheType } from '../gpu/prelude.ts';
import { Model } from '../model/model.ts';
import { measurePeaks, type Peaks } from './bench-peaks.ts';
import { benchPrompt, round, sharesOf, workOf, type KindShare } from './bench-work.ts';
import { findGpu } from './device.ts';
import { calibrateOnDisk } from './kernels.ts';

/** Measures a model on this machine's GPU, in Node. */

export interface NodeBenchOptions {
  readonly manifest: Manifest;
  readonly read: (file: string) => Promise<Uint8Array>;
  readonly variant: 'auto' | 'f32' | 'f16';
  readonly cache: CacheType;
  readonly int8: boolean; // activations may be 8-bit integers where that measures faster
  readonly steps: number; // decode steps at every context
  readonly contexts: readonly number[]; // tokens in the cache before them
  readonly log: (line: string) => void;
}

interface Speed {
  readonly context: number; // tokens in the cache before
  readonly tokens: number;
  readonly ms: number;
  readonly tokensPerSecond: number;
}

interface PassShares {
  readonly tokens: number;
  readonly context: number;
  readonly ms: number; // of the GPU, every kernel a pass of its own
  readonly kinds: readonly KindShare[];
}

export interface NodeBench {
  readonly package: string;
  readonly adapter: string;
  readonly driver: string;
  readonly variant: string;
  readonly cache: CacheType;
  readonly peaks: Peaks;
  readonly matvec: { readonly chosen: string; readonly ms: CutTimes };
  readonly loadMs: number;
  readonly warmUpMs: number;
  readonly taskSwitchMs: number;
  readonly prefill: readonly Speed[];
  readonly decode: readonly Speed[];
  readonly prefillTflops: number; // matrices of the layers, at the longest prefill
  readonly kernels: { readonly decode: PassShares | null; readonly prefill: PassShares | null };
  readonly checksum: number; // of the greedy tokens: a fast wrong answer shows
}

/** @throws Failure NoWebGpu, DeviceLimit, and what loading throws */
export async function benchModel(options: NodeBenchOptions): Promise<NodeBench> {
  const { manifest, log } = options;
  const found = await findGpu();
  const usual = await requestGpu(found.gpu, {
    variant: options.variant,
    cache: options.cache,
  });
  log(`${found.driver}, ${usual.variant}, cache ${usual.cache}`);
  const { gpu, chosen, times, left, elapsedMs } = await calibrateOnDisk(usual, manifest.config, {
    note: log,
    allowInt8: options.int8,
  });
  log(`matrices by ${chosen.title}, found in ${Math.round(elapsedMs)} ms, ${left.length} untried`);
  const peaks = await measurePeaks(gpu);
  log(`reads ${round(peaks.readGBs)} GB/s, multiplies and adds ${round(peaks.f32Gflops)} GFLOP/s`);
  const start = performance.now();
  const model = await Model.load(gpu, manifest, options.read);
  const loadMs = performance.now() - start;
  log(`loaded in ${(loadMs / 1000).toFixed(1)} s`);
  const longest = manifest.config.capacity - options.steps;
  const contexts = options.contexts.filter((context) => context > 0 && context <= longest);
  if (contexts.length === 0) throw new Error(`no context is below ${longest + 1} tokens`);

  const first = performance.now();
  await decode(model, 1 + gpu.tuning.chunk, 2); // software drivers compile at the first dispatch
  const warmUpMs = performance.now() - first;
  const measured = [];
  for (const context of contexts) {
    measured.push(await decode(model, context, options.steps));
    log(`decode after ${context}: ${measured.at(-1)?.decode.tokensPerSecond} tokens/s`);
  }
  const prefill = measured.map((one) => one.prefill);
  const shared = Math.min(128, Math.max(...contexts)); // tokens before a pass that is timed by kernel
  const tasks = manifest.tasks.map(({ id }) => id);
  const result = {
    package: manifest.id,
    adapter: gpu.adapterName,
    driver: found.driver,
    variant: gpu.variant,
    cache: gpu.cache,
    peaks: {
      readGBs: round(peaks.readGBs),
      f32Gflops: round(peaks.f32Gflops),
      dispatchUs: round(peaks.dispatchUs),
    },
    matvec: { chosen: chosen.title, ms: times },
    loadMs: round(loadMs),
    warmUpMs: round(warmUpMs),
    taskSwitchMs: await taskSwitch(model, tasks),
    prefill,
    decode: measured.map((one) => one.decode),
    prefillTflops: tflops(manifest, prefill.at(-1)),
    kernels: {
      decode: await shares(gpu, model, manifest, peaks, shared, 1),
      prefill: await shares(gpu, model, manifest, peaks, shared, gpu.tuning.chunk),
    },
    checksum: measured.reduce((sum, one) => sum + one.checksum, 0),
  };
  model.dispose();
  gpu.device.destroy();
  found.release();
  return result;
}

function prompt(model: Model, length: number): number[] {
  return benchPrompt(model.config.vocab, length);
}

/** Fills the cache with `context` tokens and goes on greedily for `steps` more. */
async function decode(model: Model, context: number, steps: number) {
  model.truncate(0);
  const start = performance.now();
  let logits = await model.prefill(prompt(model, context));
  const middle = performance.now();
  let checksum = 0;
  for (let i = 0; i < steps; i++) {
    const token = logits.reduce((best, v, id) => (v > (logits[best] ?? 0) ? id : best), 0);
    checksum = (checksum * 31 + token) % 1_000_003;
    logits = await model.decode(token);
  }
  const end = performance.now();
  return {
    prefill: speed(0, context, middle - start),
    decode: speed(context, steps, end - middle),
    checksum,
  };
}

function speed(context: number, tokens: number, ms: number): Speed {
  return { context, tokens, ms: round(ms), tokensPerSecond: round((tokens * 1000) / ms) };
}

/** 10^12 operations a second in the 4-bit matrices of a prefill. */
function tflops(manifest: Manifest, prefill: Speed | undefined): number {
  if (prefill === undefined) throw new Error('no prefill was measured');
  const flops = workOf(manifest, prefill.tokens, 0, 4).get('4-bit matrices')?.flops ?? 0;
  return round(flops / prefill.ms / 1e9);
}

/** Median of switching to another task. */
async function taskSwitch(model: Model, tasks: readonly string[]): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 15; i++) {
    times.push(model.setTask(tasks[i % tasks.length] ?? ''));
    await model.prefill(prompt(model, 1));
  }
  times.sort((a, b) => a - b);
  return round(times[7] ?? 0);
}

/** GPU time of a pass of `tokens` after `context` others; null without timestamps. */
async function shares(
  gpu: GpuDevice,
  model: Model,
  manifest: Manifest,
  peaks: Peaks,
  context: number,
  tokens: number,
): Promise<PassShares | null> {
  const before = Math.min(context, model.config.capacity - tokens);
  model.truncate(0);
  await model.prefill(prompt(model, before));
  await model.profile(prompt(model, tokens)); // the first one of a length may compile
  const times = await model.profile(prompt(model, tokens));
  if (times === null) return null;
  const total = [...times.values()].reduce((sum, { ms }) => sum + ms, 0);
  const elemBytes = gpu.variant === 'f16' ? 2 : 4;
  const bytes = gpu.cache === 'int8' ? 1 + 4 / manifest.config.headDim : elemBytes;
  const work = workOf(manifest, tokens, before, bytes);
  return { tokens, context: before, ms: round(total), kinds: sharesOf(times, work, peaks) };
}
