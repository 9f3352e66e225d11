import { Failure } from '../failure.ts';
import { halfToFloat } from '../format/dtype.ts';
import { columnsOf, roundUp, tensorByName } from '../format/layout.ts';
import type { AdaptedLinear, AdapterInfo, Manifest, TensorInfo } from '../format/manifest.ts';
import type { Gpu } from '../gpu/gpu.ts';
import type { Uploads } from './uploads.ts';
import { tensorNamed } from './weights.ts';

/** Storage bindings start at multiples of this: each site's gates have a slot of their own. */
const SLOT_BYTES = 256;

/** Neighbouring linears of equal height in one tensor, whose B are stacked. */
export interface AdapterRun {
  readonly b: GPUBuffer; // elem [rows, P]
  readonly rows: number;
  readonly linearRows: number;
  readonly first: number; // the first of them among the site's linears
  readonly from: number; // its first row in the tensor
}

/** The adapted linears of one tensor: they share an input. */
export interface AdapterSite {
  readonly columns: number; // K
  readonly linears: readonly AdaptedLinear[]; // S, in the order of their rows
  readonly a: GPUBuffer; // elem [S * E * R, K]
  readonly router: GPUBuffer | null; // elem [S, E - 1, K]
  readonly runs: readonly AdapterRun[];
  readonly gates: GPUBufferBinding; // f32 [S, E] of the task
}

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
  const sites = new Map<string, AdapterSite>();
  for (const [tensor, linears] of byTensor) {
    const planner = new SitePlanner(gpu, tensors, uploads, info, padded);
    const columns = columnsOf(tensorNamed(tensors, tensor));
    sites.set(tensor, planner.plan(linears, columns, slots.binding(sites.size)));
  }
  const setTask = (task: string): void => slots.write(task);
  return { info, scale: info.alpha / info.rank, padded, sites, setTask };
}

/** Makes the buffers of one site. */
class SitePlanner {
  readonly #gpu: Gpu;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  readonly #uploads: Uploads;
  readonly #info: AdapterInfo;
  readonly #padded: number;

  constructor(
    gpu: Gpu,
    tensors: ReadonlyMap<string, TensorInfo>,
    uploads: Uploads,
    info: AdapterInfo,
    padded: number,
  ) {
    this.#gpu = gpu;
    this.#tensors = tensors;
    this.#uploads = uploads;
    this.#info = info;
    this.#padded = padded;
  }

  plan(linears: readonly AdaptedLinear[], columns: number, gates: GPUBufferBinding): AdapterSite {
    const { experts, rank } = this.#info;
    const names = (pick: (linear: AdaptedLinear) => string | null): string[] =>
      linears.map(pick).filter((name) => name !== null);
    const a = names((linear) => linear.a);
    const routers = names((linear) => linear.router);
    return {
      columns,
      linears,
      gates,
      a: this.#stack(a, experts * rank, columns, columns),
      router: routers.length > 0 ? this.#stack(routers, experts - 1, columns, columns) : null,
      runs: runsOf(linears).map(({ first, members }) => {
        const linearRows = heightOf(members[0]);
        const b = this.#stack(
          members.map((linear) => linear.b),
          linearRows,
          experts * rank,
          this.#padded,
        );
        const rows = linearRows * members.length;
        return { b, rows, linearRows, first, from: members[0]?.rows[0] ?? 0 };
      }),
    };
  }

  /** Tensors of `rows` rows each, one after the other, their rows padded with zeros. */
  #stack(names: readonly string[], rows: number, columns: number, padded: number): GPUBuffer {
    const { device, elemBytes, variant } = this.#gpu;
    const buffer = this.#gpu.storage(names[0] ?? '', names.length * rows * padded * elemBytes);
    names.forEach((name, i) => {
      for (const { rows: span, ...block } of tensorNamed(this.#tensors, name).blocks) {
        this.#uploads.plan(block, (bytes) => {
          const count = span[1] - span[0];
          // A copy starts at an even address; slice() of Node's Buffer would not copy.
          const halves = new Uint16Array(
            new Uint8Array(bytes.subarray(0, count * columns * 2)).buffer,
          );
          const data =
            variant === 'f16'
              ? padRows(halves, columns, new Uint16Array(count * padded), padded)
              : padRows(
                  Float32Array.from(halves, halfToFloat),
                  columns,
                  new Float32Array(count * padded),
                  padded,
                );
          device.queue.writeBuffer(buffer, (i * rows + span[0]) * padded * elemBytes, data);
        });
      }
    });
    return buffer;
  }
}

function padRows<T extends Uint16Array<ArrayBuffer> | Float32Array<ArrayBuffer>>(
  from: T,
  columns: number,
  to: T,
  padded: number,
): T {
  for (let row = 0; row * columns < from.length; row++) {
    to.set(from.subarray(row * columns, (row + 1) * columns), row * padded);
  }
  return to;
}

function heightOf(linear: AdaptedLinear | undefined): number {
  return linear === undefined ? 0 : linear.rows[1] - linear.rows[0];
}

/** Linears that follow each other without a gap and are equally high, in whole teams of four rows. */
function runsOf(linears: readonly AdaptedLinear[]): { first: number; members: AdaptedLinear[] }[] {
  const runs: { first: number; members: AdaptedLinear[] }[] = [];
  linears.forEach((linear, i) => {
    const last = runs.at(-1)?.members;
    const height = heightOf(linear);
    const joins = last?.at(-1)?.rows[1] === linear.rows[0] && heightOf(last[0]) === height;
    if (joins && height % 4 === 0) last.push(linear);
    else runs.push({ first: i, members: [linear] });
  });
  return runs;
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
