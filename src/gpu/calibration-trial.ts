import { floatToHalf, halfToFloat } from '../format/dtype.ts';
import { Gpu } from './gpu.ts';
import type { GpuDevice } from './device.ts';
import { createMatvecQ4 } from './kernels/matvec_q4.ts';
import type { MatvecCut } from './tuning.ts';

/** The matrix of a model that a decode step spends most of its time in: gate and up. */
export interface TrialShape {
  readonly columns: number; // K
  readonly rows: number; // N, even: half of them gate, half up
}

/** Weights beyond this many bytes make the measurement longer, and not better. */
const MOST_BYTES = 32 << 20;
/** Rows of the product that are compared. */
const COMPARED = 64;
const EPS = 1e-6;
/** A measurement takes at least this long, so that submitting hardly counts in it. */
const BATCH_MS = 15;
const BATCHES = 3;

/**
 * The fused kernel of decode, norm + matrix + SwiGLU, on made-up weights of a model's shape. What
 * it computes is compared with a plain loop over some of the rows.
 */
export class Trial {
  readonly #owner: GpuDevice;
  readonly #gpu: Gpu;
  readonly #columns: number;
  readonly #rows: number;
  readonly #params: GPUBuffer;
  readonly #weights: GPUBuffer;
  readonly #x: GPUBuffer;
  readonly #norm: GPUBuffer;
  readonly #y: GPUBuffer;
  readonly #staging: GPUBuffer;
  readonly #input: Float32Array<ArrayBuffer>;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #scales: Uint16Array<ArrayBuffer>;

  /** @throws RangeError for rows of no whole groups of 32, or an odd number of rows */
  constructor(owner: GpuDevice, { columns, rows }: TrialShape) {
    if (columns % 32 !== 0 || rows % 2 !== 0 || columns === 0 || rows === 0) {
      throw new RangeError(`gate and up of ${rows} rows and ${columns} columns`);
    }
    const rowBytes = columns / 2 + columns / 16;
    const fitting = Math.floor(MOST_BYTES / rowBytes / 8) * 8;
    this.#owner = owner;
    this.#gpu = new Gpu(owner);
    this.#columns = columns;
    this.#rows = Math.min(rows, fitting);
    this.#params = this.#gpu.params('trial params');
    this.#weights = this.#gpu.storage('trial weights', this.#rows * rowBytes);
    this.#x = this.#gpu.storage('trial x', columns * 4);
    this.#norm = this.#gpu.storage('trial norm', columns * 4);
    this.#y = this.#gpu.storage('trial y', (this.#rows / 2) * this.#gpu.elemBytes);
    this.#staging = this.#gpu.staging('trial y', (this.#rows / 2) * this.#gpu.elemBytes);
    const random = noise(columns);
    this.#input = Float32Array.from({ length: columns }, () => random() * 2 - 1);
    // Odd numbers of both, so that neighbouring rows are not the same.
    this.#bytes = Uint8Array.from({ length: 65_521 }, () => random() * 256);
    // Sums of about 1: sqrt(K) terms of a nibble's 4.6, the norm's 1 and the scale.
    const scale = 1 / (4.6 * Math.sqrt(columns));
    this.#scales = Uint16Array.from({ length: 8191 }, () => floatToHalf(scale * (0.5 + random())));
    this.#fill();
  }

  /**
   * Milliseconds of one product, the least of several tries; null where its numbers are wrong.
   * @throws Failure DeviceLost; Error where the kernel does not compile
   */
  async measure(cut: MatvecCut): Promise<number | null> {
    const gpu = new Gpu({ ...this.#owner, tuning: { ...this.#owner.tuning, matvec: cut } });
    const [columns, rows] = [this.#columns, this.#rows];
    const shape = { columns, rows, from: 0, outputs: rows, add: false };
    const bind = await createMatvecQ4(gpu, shape, { normEps: EPS, silu: true });
    const step = bind({
      params: this.#params,
      weights: this.#weights,
      x: this.#x,
      norm: this.#norm,
      y: this.#y,
    });
    const run = async (times: number): Promise<number> => {
      const start = performance.now();
      const encoder = this.#gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (let i = 0; i < times; i++) this.#gpu.encode(pass, [step], 1);
      pass.end();
      this.#gpu.device.queue.submit([encoder.finish()]);
      await this.#gpu.idle();
      return (performance.now() - start) / times;
    };
    // Left over from another cut, they would pass for right.
    this.#gpu.device.queue.writeBuffer(this.#y, 0, new Uint8Array(this.#y.size).fill(0xff));
    await run(1); // some drivers compile now
    if (!(await this.#right(cut.int8))) return null;
    let least = await run(1);
    const times = Math.min(1000, Math.max(1, Math.ceil(BATCH_MS / least)));
    for (let i = 0; i < BATCHES; i++) least = Math.min(least, await run(times));
    return least;
  }

  dispose(): void {
    this.#gpu.dispose();
  }

  #fill(): void {
    const { queue } = this.#gpu.device;
    queue.writeBuffer(this.#params, 0, Uint32Array.of(1, 0, 0, 0));
    const count = this.#rows * this.#columns;
    const q = repeated(this.#bytes, new Uint8Array(count / 2));
    queue.writeBuffer(this.#weights, 0, q);
    // An even number of scales: rows are.
    const scales = repeated(this.#scales, new Uint16Array(count / 32));
    queue.writeBuffer(this.#weights, count / 2, scales);
    queue.writeBuffer(this.#x, 0, this.#input);
    queue.writeBuffer(this.#norm, 0, new Float32Array(this.#columns).fill(1));
  }

  /** Whether some rows, the first and the last among them, are what a plain loop makes of them. */
  async #right(int8: boolean): Promise<boolean> {
    const bytes = this.#y.size;
    const encoder = this.#gpu.device.createCommandEncoder();
    encoder.copyBufferToBuffer(this.#y, 0, this.#staging, 0, bytes);
    this.#gpu.device.queue.submit([encoder.finish()]);
    const words = new Float32Array(bytes / 4);
    await this.#gpu.read(this.#staging, words);
    const halves = new Uint16Array(words.buffer);
    const half = this.#rows / 2;
    for (let i = 0; i < COMPARED; i++) {
      const row = Math.floor((i * (half - 1)) / (COMPARED - 1));
      const actual =
        this.#gpu.variant === 'f16' ? halfToFloat(halves[row] ?? 0) : (words[row] ?? NaN);
      const gate = this.#row(row);
      const up = this.#row(row + half);
      const expected = (gate.sum / (1 + Math.exp(-gate.sum))) * up.sum;
      // f32 sums, exp of WGSL, storage; bytes add noise. silu changes by at most 1.1 of its change.
      const lost = (one: RowSum): number => one.size * 2 ** -17 + (int8 ? one.noise : 0);
      const allowed =
        1.1 * lost(gate) * (Math.abs(up.sum) + lost(up)) +
        Math.abs(gate.sum) * lost(up) +
        Math.abs(expected) * 2 ** (this.#gpu.variant === 'f16' ? -10 : -17) +
        1e-6;
      if (!(Math.abs(actual - expected) <= allowed)) return false;
    }
    return true;
  }

  #row(n: number): RowSum {
    const mean = this.#input.reduce((sum, v) => sum + v * v, 0) / this.#columns;
    const factor = 1 / Math.sqrt(mean + EPS);
    let [sum, size, variance] = [0, 0, 0];
    for (let g = 0; g < this.#columns / 32; g++) {
      const scale = halfToFloat(this.#scales[((n * this.#columns) / 32 + g) % 8191] ?? 0);
      let [largest, squares] = [0, 0];
      for (let k = g * 32; k < g * 32 + 32; k++) {
        const byte = this.#bytes[((n * this.#columns + k) >> 1) % 65_521] ?? 0;
        const w = ((k % 2 === 0 ? byte & 15 : byte >> 4) - 8) * scale;
        const x = (this.#input[k] ?? 0) * factor;
        sum += w * x;
        size += 16 * scale * Math.abs(x);
        squares += w * w;
        largest = Math.max(largest, Math.abs(x));
      }
      variance += (squares * (largest / 127) ** 2) / 12;
    }
    return { sum, size, noise: 6 * Math.sqrt(variance) };
  }
}

/** A row's product, the size of what is summed, and six sigma of what bytes lose (`byteNoise`). */
interface RowSum {
  readonly sum: number;
  readonly size: number;
  readonly noise: number;
}

/** Fills `into` with copies of `block`. */
function repeated<T extends Uint8Array | Uint16Array>(block: T, into: T): T {
  for (let at = 0; at < into.length; at += block.length) {
    into.set(block.subarray(0, into.length - at), at);
  }
  return into;
}

/** Numbers in [0, 1) that are the same on every visit. */
function noise(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
