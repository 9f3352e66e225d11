import type { Gpu } from '../gpu/gpu.ts';
import type { Sizes } from './config.ts';
import type { State } from './state.ts';

/** A part of a buffer: keys or values of one layer, or their scales. */
interface Part {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly bytes: number;
}

/**
 * Where the first `tokens` positions of the KV cache lie: layer by layer the keys, then the values,
 * of each in 8 bits first the bytes, then the scales (see `cacheLayout`). Since a head has a
 * multiple of four values, every part is whole words.
 */
function partsOf(
  gpu: Gpu,
  { kvHeads, headDim }: Sizes,
  { layers, cache }: State,
  tokens: number,
): readonly Part[] {
  const heads = tokens * kvHeads;
  const eight = gpu.cache === 'int8';
  return layers.flatMap(({ keys, values }) =>
    [keys, values].flatMap((buffer) => [
      { buffer, offset: 0, bytes: heads * headDim * (eight ? 1 : gpu.elemBytes) },
      ...(eight ? [{ buffer, offset: cache.scales * 4, bytes: heads * 4 }] : []),
    ]),
  );
}

/** The first positions of a KV cache as bytes, out of the GPU and back in. */
export class CacheRows {
  readonly #gpu: Gpu;
  readonly #sizes: Sizes;
  readonly #state: State;

  constructor(gpu: Gpu, sizes: Sizes, state: State) {
    this.#gpu = gpu;
    this.#sizes = sizes;
    this.#state = state;
  }

  /** Bytes that so many positions make. */
  bytes(tokens: number): number {
    return this.#parts(tokens).reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /**
   * The copy is queued before this returns: what is computed afterwards does not change it.
   * @throws Failure DeviceLost
   */
  async read(tokens: number): Promise<Uint8Array<ArrayBuffer>> {
    const { device } = this.#gpu;
    const size = this.bytes(tokens);
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    // Its own, and gone again: it is needed once for a task, and may be large.
    const staging = device.createBuffer({ label: 'kept cache', size, usage });
    try {
      const encoder = device.createCommandEncoder();
      let at = 0;
      for (const { buffer, offset, bytes } of this.#parts(tokens)) {
        encoder.copyBufferToBuffer(buffer, offset, staging, at, bytes);
        at += bytes;
      }
      device.queue.submit([encoder.finish()]);
      const words = new Float32Array(size / 4); // copied bit by bit, whatever they mean
      await this.#gpu.read(staging, words);
      return new Uint8Array(words.buffer);
    } finally {
      staging.destroy();
    }
  }

  /** @throws RangeError for bytes that are not those of so many positions */
  write(rows: Uint8Array<ArrayBuffer>, tokens: number): void {
    const size = this.bytes(tokens);
    if (rows.length !== size) {
      throw new RangeError(`${rows.length} bytes for ${tokens} positions, which take ${size}`);
    }
    let at = 0;
    for (const { buffer, offset, bytes } of this.#parts(tokens)) {
      this.#gpu.device.queue.writeBuffer(buffer, offset, rows, at, bytes);
      at += bytes;
    }
  }

  #parts(tokens: number): readonly Part[] {
    return partsOf(this.#gpu, this.#sizes, this.#state, tokens);
  }
}
