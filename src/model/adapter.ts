import { Failure } from '../failure.ts';
import { columnsOf, roundUp, tensorByName } from '../format/layout.ts';
import type { AdaptedLinear, AdapterInfo, Manifest, TensorInfo } from '../format/manifest.ts';
import type { Gpu } from '../gpu/gpu.ts';
import type { AdapterRows } from '../gpu/kernels/matvec_q4.ts';
import type { Uploads } from './uploads.ts';
import { tensorNamed } from './weights.ts';

/** Storage bindings start at multiples of this: each site's gates have a slot of their own. */
const SLOT_BYTES = 256;

/** The adapted linears of one tensor: they share an input. */
export interface AdapterSite {
  readonly columns: number; // K
  readonly linears: readonly AdaptedLinear[]; // S, in the order of their rows, at most three
  readonly a: GPUBuffer; // f16 [S * E * R, K]
  readonly router: GPUBuffer | null; // f16 [S, E - 1, K]
  readonly b: GPUBuffer; // f16 [rows, P], zeros for rows between linears
  readonly rows: AdapterRows;
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
    const rows = rowsOf(linears, this.#padded);
    const starts = linears.map((linear) => linear.rows[0] - rows.from);
    const b = this.#matrix(linears[0]?.b ?? '', rows.rows, this.#padded);
    linears.forEach((linear, i) =>
      this.#fill(b, linear.b, starts[i] ?? 0, experts * rank, this.#padded),
    );
    return {
      columns,
      linears,
      gates,
      a: this.#stack(a, experts * rank, columns),
      router: routers.length > 0 ? this.#stack(routers, experts - 1, columns) : null,
      b,
      rows,
    };
  }

  /** Tensors of `rows` rows each, one after the other. */
  #stack(names: readonly string[], rows: number, columns: number): GPUBuffer {
    const buffer = this.#matrix(names[0] ?? '', names.length * rows, columns);
    names.forEach((name, i) => this.#fill(buffer, name, i * rows, columns, columns));
    return buffer;
  }

  #matrix(label: string, rows: number, columns: number): GPUBuffer {
    return this.#gpu.storage(label, rows * columns * 2);
  }

  /** Plans a tensor of `columns` columns into rows of `padded`, from row `first` on. */
  #fill(buffer: GPUBuffer, name: string, first: number, columns: number, padded: number): void {
    const { device } = this.#gpu;
    for (const { rows: span, ...block } of tensorNamed(this.#tensors, name).blocks) {
      this.#uploads.plan(block, (bytes) => {
        const count = span[1] - span[0];
        // A copy starts at an even address; slice() of Node's Buffer would not copy.
        const halves = new Uint16Array(
          new Uint8Array(bytes.subarray(0, count * columns * 2)).buffer,
        );
        const data = padRows(halves, columns, new Uint16Array(count * padded), padded);
        device.queue.writeBuffer(buffer, (first + span[0]) * padded * 2, data);
      });
    }
  }
}

function padRows(
  from: Uint16Array<ArrayBuffer>,
  columns: number,
  to: Uint16Array<ArrayBuffer>,
  padded: number,
): Uint16Array<ArrayBuffer> {
  for (let row = 0; row * columns < from.length; row++) {
    to.set(from.subarray(row * columns, (row + 1) * columns), row * padded);
  }
  return to;
}

/**
 * Where the rows of the linears of one tensor stand.
 * @throws Failure BadPackage for more linears than queries, keys and values
 */
function rowsOf(linears: readonly AdaptedLinear[], padded: number): AdapterRows {
  if (linears.length > 3) {
    const { tensor = '' } = linears[0] ?? {};
    throw new Failure(
      'BadPackage',
      `${tensor} has ${linears.length} adapted linears, the kernels take three`,
    );
  }
  const from = linears[0]?.rows[0] ?? 0;
  const rows = (linears.at(-1)?.rows[1] ?? 0) - from;
  const start = (i: number): number => (linears[i]?.rows[0] ?? from + rows) - from;
  return { padded, from, rows, starts: [start(1), start(2)], linears: linears.length };
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
