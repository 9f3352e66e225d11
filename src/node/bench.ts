import process from 'node:process';
import { Command, Option } from 'commander';
import { parseManifest } from '../format/layout.ts';
import { requestGpu } from '../gpu/device.ts';
import type { KernelTimes } from '../model/profile.ts';
import { Model } from '../model/model.ts';
import { findGpu } from './device.ts';
import { DiskPackage } from './disk.ts';

/**
 * Measures a package on this machine's GPU and prints one JSON object:
 * npx tsx --import ./src/node/wgsl-loader.mjs src/node/bench.ts --package DIR
 */

interface BenchOptions {
  package: string;
  variant: 'auto' | 'f32' | 'f16';
  steps: string;
  contexts: string;
}

interface Speed {
  readonly context: number; // tokens in the cache before
  readonly tokens: number;
  readonly ms: number;
  readonly tokensPerSecond: number;
}

const program = new Command('bench')
  .requiredOption('--package <dir>', 'folder of the model package')
  .option('--steps <n>', 'decode steps at every context', '32')
  .option('--contexts <list>', 'tokens in the cache before the steps', '16,128,512,1024')
  .addOption(new Option('--variant <type>').choices(['auto', 'f32', 'f16']).default('auto'));

await main(program.parse().opts<BenchOptions>());

async function main(options: BenchOptions): Promise<void> {
  const source = new DiskPackage(options.package);
  const manifest = parseManifest(await source.read('manifest.json'));
  const found = await findGpu();
  const gpu = await requestGpu(found.gpu, { variant: options.variant });
  const start = performance.now();
  const model = await Model.load(gpu, manifest, (file) => source.read(file));
  const loadMs = performance.now() - start;
  const steps = Number(options.steps);
  const longest = manifest.config.capacity - steps;
  const contexts = options.contexts.split(',').map(Number);
  const fitting = contexts.filter((context) => context > 0 && context <= longest);

  const first = performance.now();
  await decode(model, 1 + gpu.tuning.chunk, 2); // software drivers compile at the first dispatch
  const warmUpMs = performance.now() - first;
  const prefill: Speed[] = [];
  const decoding: Speed[] = [];
  let checksum = 0;
  for (const context of fitting) {
    const measured = await decode(model, context, steps);
    prefill.push(measured.prefill);
    decoding.push(measured.decode);
    checksum += measured.checksum;
  }
  const result = {
    package: manifest.id,
    adapter: gpu.adapterName,
    driver: found.driver,
    variant: gpu.variant,
    loadMs: round(loadMs),
    warmUpMs: round(warmUpMs),
    taskSwitchMs: await taskSwitch(
      model,
      manifest.tasks.map(({ id }) => id),
    ),
    prefill,
    decode: decoding,
    kernels: {
      decode: await shares(model, 128, 1),
      prefill: await shares(model, 128, gpu.tuning.chunk),
    },
    checksum, // of the greedy tokens: a fast wrong answer shows
  };
  console.log(JSON.stringify(result, null, 2));
  model.dispose();
  gpu.device.destroy();
  found.release();
  process.exit(0); // Dawn keeps the process alive
}

function prompt(model: Model, length: number): number[] {
  return Array.from({ length }, (_, i) => (i * 7919 + 13) % model.config.vocab);
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

/** GPU time of a pass of `tokens` after `context` others, by kernel; null without timestamps. */
async function shares(model: Model, context: number, tokens: number) {
  model.truncate(0);
  await model.prefill(prompt(model, Math.min(context, model.config.capacity - tokens)));
  const times = await model.profile(prompt(model, tokens));
  if (times === null) return null;
  const total = [...times.values()].reduce((sum, { ms }) => sum + ms, 0);
  return { tokens, ms: round(total), kernels: table(times, total) };
}

function table(times: KernelTimes, total: number) {
  const rows = [...times].sort(([, one], [, other]) => other.ms - one.ms);
  return rows.map(([kernel, { ms, dispatches }]) => {
    return { kernel, dispatches, ms: round(ms), share: round(ms / total) };
  });
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}
