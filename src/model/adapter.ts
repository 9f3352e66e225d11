import { Failure } from '../failure.ts';
import { columnsOf, roundUp, tensorByName } from '../format/layout.ts';
import type { AdaptedLinear, AdapterInfo, Manifest } from '../format/manifest.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { SitePlanner, type AdapterSite } from './adapter-site.ts';
import type { Uploads } from './uploads.ts';
import { tensorNamed } from './weights.ts';

/** Storage bindings start at multiples of this: each site's gates have a slot of their own. */
const SLOT_BYTES = 256;

/** The MoE-Adapter on the GPU: y = W x + B (gates * A x). */
export interface Adapter {
  readonly info: AdapterInfo;
  readonly scale: number; // alpha / r
  readonly padded: number; // P: E * R rounded up to whole vec4s
  readonly sites: ReadonlyMap<string, AdapterSite>; // by tensor
  /** Puts the gates of a task in place. */
  setTask(task: string): void;
}

/** Makes the buffers of the adapter and plans what is written to them. */
export function planAdapter(gpu: Gpu, manifest: Manifest, uploads: Uploads): Adapter | null {
  const info = manifest.adapter;
  if (info === null) return null;
  const tensors = tensorByName(manifest);
  const byTensor = new Map<string, AdaptedLinear[]>();
  for (const linear of info.linears) {
    byTensor.set(linear.tensor, [...(byTensor.get(linear.tensor) ?? []), linear]);
  }
  for (const linears of byTensor.values()) {
    linears.sort((one, other) => one.rows[0] - other.rows[0]);
  }
  const padded = roundUp(info.experts * info.rank, 4);
  const slots = new GateSlots(gpu, info, manifest, [...byTensor.values()]);
  const planner = new SitePlanner(gpu, tensors, uploads, info, padded);
  const sites = new Map<string, AdapterSite>();
  for (const [tensor, linears] of byTensor) {
    const columns = columnsOf(tensorNamed(tensors, tensor));
    sites.set(tensor, planner.plan(linears, columns, slots.binding(sites.size)));
  }
  const setTask = (task: string): void => slots.write(task);
  return { info, scale: info.alpha / info.rank, padded, sites, setTask };
}

/** The gates of all sites in one buffer, and of all tasks in memory: a switch is one write. */
class GateSlots {
  readonly #gpu: Gpu;
  readonly #buffer: GPUBuffer;
  readonly #slotBytes: number;
  readonly #byTask = new Map<string, Float32Array<ArrayBuffer>>();

  constructor(
    gpu: Gpu,
    info: AdapterInfo,
    manifest: Manifest,
    sites: readonly (readonly AdaptedLinear[])[],
  ) {
    const largest = Math.max(...sites.map((linears) => linears.length));
    this.#gpu = gpu;
    this.#slotBytes = roundUp(largest * info.experts * 4, SLOT_BYTES);
    this.#buffer = gpu.storage('gates', sites.length * this.#slotBytes);
    for (const { id } of manifest.tasks) {
      const values = new Float32Array((sites.length * this.#slotBytes) / 4);
      sites.forEach((linears, slot) => {
        linears.forEach((linear, i) => {
          const at = (slot * this.#slotBytes) / 4 + i * info.experts;
          values.set(gatesOf(info, id, info.linears.indexOf(linear)), at);
        });
      });
      this.#byTask.set(id, values);
    }
  }

  binding(slot: number): GPUBufferBinding {
    return { buffer: this.#buffer, offset: slot * this.#slotBytes, size: this.#slotBytes };
  }

  write(task: string): void {
    const values = this.#byTask.get(task);
    if (values === undefined) throw new Failure('UnknownTask', `this package has no task ${task}`);
    this.#gpu.device.queue.writeBuffer(this.#buffer, 0, values);
  }
}

/** alpha / r times 1 for the universal expert and the task's gates, uniform where it has none. */
function gatesOf(
  { alpha, rank, experts, gates }: AdapterInfo,
  task: string,
  linear: number,
): number[] {
  const uniform = Array.from({ length: experts - 1 }, () => 1 / (experts - 1));
  return [1, ...(gates[task]?.[linear] ?? uniform)].map((gate) => (alpha / rank) * gate);
}
