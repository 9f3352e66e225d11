import { Failure } from '../failure.ts';
import { columnsOf } from '../format/layout.ts';
import type { AdaptedLinear, AdapterInfo, TensorInfo } from '../format/manifest.ts';
import { packFactor } from '../gpu/factors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import type { AdapterRows } from '../gpu/kernels/matvec_q4.ts';
import type { Uploads } from './uploads.ts';
import { tensorNamed } from './weights.ts';

/** The adapted linears of one tensor: they share an input. */
export interface AdapterSite {
  readonly columns: number; // K
  readonly linears: readonly AdaptedLinear[]; // S, in the order of their rows, at most three
  readonly a: GPUBuffer; // factor4 [S * E * R, K]
  readonly router: GPUBuffer | null; // f16 [S, E - 1, K]
  readonly b: GPUBuffer; // factor4 [rows, P], zeros for rows between linears
  readonly units: GPUBuffer; // f32 [S * E * R], of A's rows times those of B's columns
  readonly rows: AdapterRows;
  readonly gates: GPUBufferBinding; // f32 [S, E] of the task
}

/** Halves, or integers of as many bits. */
type Bits = Uint16Array<ArrayBuffer>;

/** Makes the buffers of a site and plans what is written to them. */
export class SitePlanner {
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

  /** @throws Failure BadPackage for more linears than the kernels take; later, for what is no number */
  plan(linears: readonly AdaptedLinear[], columns: number, gates: GPUBufferBinding): AdapterSite {
    const padded = this.#padded;
    const components = this.#info.experts * this.#info.rank;
    const rows = rowsOf(linears, padded);
    const label = linears[0]?.tensor ?? '';
    const a = this.#matrix(`${label} A`, linears.length * components, columns);
    const b = this.#matrix(`${label} B`, rows.rows, padded);
    const units = new Units(this.#gpu, `${label} units`, linears.length * components);
    linears.forEach((linear, i) => {
      const first = i * components;
      this.#whole(linear.a, (halves) => {
        const kept = this.#keep(halves, 'rows', units, first);
        this.#write(a, first * columns, kept);
      });
      this.#whole(linear.b, (halves) => {
        const kept = this.#keep(halves, 'columns', units, first);
        const start = linear.rows[0] - rows.from;
        this.#write(b, start * padded, padRows(kept, components, padded));
      });
    });
    const router = this.#routers(linears, columns);
    return { columns, linears, gates, a, router, b, units: units.buffer, rows };
  }

  /** The routers of all linears, one below the other; null where there are none. */
  #routers(linears: readonly AdaptedLinear[], columns: number): GPUBuffer | null {
    const rows = this.#info.experts - 1;
    const names = linears.map(({ router }) => router).filter((name) => name !== null);
    if (names.length === 0) return null;
    const buffer = this.#matrix(names[0] ?? '', names.length * rows, columns);
    names.forEach((name, i) =>
      this.#whole(name, (halves) => this.#write(buffer, i * rows * columns, halves)),
    );
    return buffer;
  }

  #matrix(label: string, rows: number, columns: number): GPUBuffer {
    return this.#gpu.storage(label, rows * columns * 2);
  }

  /** Plans what is made of a tensor of halves, once the last of its blocks is there. */
  #whole(name: string, use: (halves: Bits) => void): void {
    const tensor = tensorNamed(this.#tensors, name);
    const columns = columnsOf(tensor);
    let halves: Bits | null = null;
    let missing = tensor.blocks.length;
    for (const { rows: span, ...block } of tensor.blocks) {
      this.#uploads.plan(block, (bytes) => {
        halves ??= new Uint16Array((tensor.shape[0] ?? 0) * columns);
        const size = (span[1] - span[0]) * columns * 2;
        new Uint8Array(halves.buffer).set(bytes.subarray(0, size), span[0] * columns * 2);
        missing -= 1;
        if (missing > 0) return;
        checkFinite(name, halves);
        use(halves);
        halves = null;
      });
    }
  }

  /** A or B of one linear as the kernels read it; `first` is the first of its components. */
  #keep(halves: Bits, along: 'rows' | 'columns', units: Units, first: number): Bits {
    if (this.#gpu.factors === 'halves') return halves;
    const factor = packFactor(halves, this.#info.experts * this.#info.rank, along);
    units.multiply(factor.units, first);
    return factor.bits;
  }

  #write(buffer: GPUBuffer, at: number, bits: Bits): void {
    this.#gpu.device.queue.writeBuffer(buffer, at * 2, bits);
  }
}

/** @throws Failure BadPackage */
function checkFinite(name: string, halves: Bits): void {
  const exponent = 0x7c00; // all ones: an infinity or no number
  if (!halves.some((bits) => (bits & exponent) === exponent)) return;
  throw new Failure('BadPackage', `${name} holds an infinity or what is no number`);
}

/** What 1 is worth in z: 1 for halves, for integers the units of A and B together. */
class Units {
  readonly buffer: GPUBuffer;
  readonly #gpu: Gpu;
  readonly #values: Float32Array<ArrayBuffer>;

  constructor(gpu: Gpu, label: string, components: number) {
    this.buffer = gpu.storage(label, components * 4);
    this.#gpu = gpu;
    this.#values = new Float32Array(components).fill(1);
    this.multiply([], 0);
  }

  multiply(units: ArrayLike<number>, first: number): void {
    for (let i = 0; i < units.length; i++) {
      this.#values[first + i] = (this.#values[first + i] ?? NaN) * (units[i] ?? NaN);
    }
    this.#gpu.device.queue.writeBuffer(this.buffer, 0, this.#values);
  }
}

/** Rows of `columns` numbers with zeros behind them. */
function padRows(from: Bits, columns: number, padded: number): Bits {
  const rows = from.length / columns;
  const to = new Uint16Array(rows * padded);
  for (let row = 0; row < rows; row++) {
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
