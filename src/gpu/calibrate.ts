import matvecWgsl from '#shaders/matvec_q4.wgsl?raw';
import probeWgsl from '#shaders/subgroup_probe.wgsl?raw';
import { Failure, failureName } from '../failure.ts';
import type { CalibrationStore, CutTimes } from './calibration-store.ts';
import { Trial, type TrialShape } from './calibration-trial.ts';
import type { GpuDevice } from './device.ts';
import { Gpu } from './gpu.ts';
import { BYTE_PRODUCTS } from './kernels/matvec_q4.ts';
import {
  createSubgroupProbe,
  PROBE_LANES,
  probeNumbers,
  subgroupOf,
} from './kernels/subgroup_probe.ts';
import { matvecCuts, type NamedCut } from './matvec-cuts.ts';
import type { MatvecCut } from './tuning.ts';

/** No further cut is begun after this long. The usual one is always measured. */
const BUDGET_MS = 1000;
/** Another cut has to be faster than the usual one by this factor: less is noise. */
const WORTH = 0.95;

export interface CalibrationOptions {
  /** The model's largest matrix of a decode step. */
  readonly shape: TrialShape;
  /** Without one, everything is measured anew each time. */
  readonly store?: CalibrationStore;
  /**
   * Whether activations may become 8-bit integers, which changes numbers: only for a model whose
   * known answer is checked afterwards, see `plainer`. Default false.
   */
  readonly allowInt8?: boolean;
  readonly budgetMs?: number;
  /** Ends it between two cuts. */
  readonly signal?: AbortSignal | undefined;
}

export interface Calibration {
  /** The device with the tuning that was chosen. */
  readonly gpu: GpuDevice;
  readonly chosen: NamedCut;
  /** Milliseconds of every cut that is known, by title; null for wrong numbers. */
  readonly times: CutTimes;
  /** Titles of what there was no time for: the next visit goes on with them. */
  readonly left: readonly string[];
  readonly elapsedMs: number;
}

/**
 * Finds the fastest way of running the matrices of decode on this GPU, of those whose numbers agree
 * with a plain loop, and remembers it: about a second on the first visit, nothing later.
 * @throws Failure DeviceLost, DeviceLimit, WrongNumbers (by every cut), what the store throws, and
 *   the signal's reason
 */
export async function calibrate(
  owner: GpuDevice,
  { shape, store, allowInt8 = false, budgetMs = BUDGET_MS, signal }: CalibrationOptions,
): Promise<Calibration> {
  const start = performance.now();
  const key = await keyOf(owner, shape);
  const int8 = allowInt8 && owner.language.has(BYTE_PRODUCTS);
  const known = await store?.get(key);
  const times: Record<string, number | null> = { ...known?.times };
  const subgroup = known?.subgroup ?? (await probeSubgroup(owner));
  const cuts = matvecCuts(owner.tuning.matvec, subgroup, int8);
  const missing = cuts.filter(({ title }) => times[title] === undefined);
  if (missing.length > 0) {
    const memory = new Gpu(owner);
    const trial = await memory.withinMemory('a trial', () => new Trial(owner, shape));
    try {
      for (const [i, { title, cut }] of missing.entries()) {
        signal?.throwIfAborted();
        if (i > 0 && performance.now() - start > budgetMs) break;
        times[title] = await measure(trial, cut);
      }
    } finally {
      trial.dispose();
    }
    await store?.set(key, { subgroup, times });
  }
  const chosen = fastest(cuts, times);
  return {
    gpu: { ...owner, tuning: { ...owner.tuning, matvec: chosen.cut } },
    chosen,
    times,
    left: cuts.map(({ title }) => title).filter((title) => times[title] === undefined),
    elapsedMs: performance.now() - start,
  };
}

function fastest(cuts: readonly NamedCut[], times: CutTimes): NamedCut {
  const [usual, ...others] = cuts;
  if (usual === undefined) throw new RangeError('no way to run a matrix');
  let best = usual;
  let least = (times[usual.title] ?? Infinity) * WORTH;
  for (const one of others) {
    const ms = times[one.title] ?? Infinity;
    if (ms >= least) continue;
    best = one;
    least = ms;
  }
  if (least === Infinity) {
    const tried = Object.keys(times).join('; ');
    throw new Failure('WrongNumbers', `every way of running matvec_q4 fails on this GPU: ${tried}`);
  }
  return best;
}

/** What a measurement holds for: this adapter, driver and features, these shaders, this shape. */
async function keyOf(owner: GpuDevice, { columns, rows }: TrialShape): Promise<string> {
  const text = new TextEncoder().encode(matvecWgsl + probeWgsl);
  const shaders = new Uint32Array(await crypto.subtle.digest('SHA-256', text)).join('-');
  return [owner.identity, owner.variant, shaders, `${rows} x ${columns}`].join(' ');
}

/** Milliseconds, or null for a cut whose numbers are wrong or that the driver cannot compile. */
async function measure(trial: Trial, cut: MatvecCut): Promise<number | null> {
  try {
    return await trial.measure(cut);
  } catch (error) {
    if (failureName(error) !== 'Bug') throw error;
    return null;
  }
}

/** How many neighbouring lanes can shuffle in every kernel of this device: measured, not believed. */
async function probeSubgroup(owner: GpuDevice): Promise<number> {
  if (!owner.device.features.has('subgroups')) return 1;
  const gpu = new Gpu(owner);
  try {
    const numbers = probeNumbers();
    const x = gpu.storage('probe', numbers.byteLength);
    const y = gpu.storage('probe', PROBE_LANES * 16);
    const staging = gpu.staging('probe', PROBE_LANES * 16);
    gpu.device.queue.writeBuffer(x, 0, numbers);
    const bind = await createSubgroupProbe(gpu);
    const encoder = gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    gpu.encode(pass, [bind({ x, y })], 1);
    pass.end();
    encoder.copyBufferToBuffer(y, 0, staging, 0, PROBE_LANES * 16);
    gpu.device.queue.submit([encoder.finish()]);
    const words = new Float32Array(PROBE_LANES * 4);
    await gpu.read(staging, words);
    const measured = subgroupOf(new Uint32Array(words.buffer), numbers);
    // Another kernel may get smaller subgroups than the probe did, down to this.
    return Math.min(measured, owner.leastSubgroup ?? measured);
  } finally {
    gpu.dispose();
  }
}
