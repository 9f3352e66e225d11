import type { Gpu } from '../gpu/gpu.ts';
import type { Forward, ForwardParts } from './forward.ts';

/** Everything a pass computed that golden files hold. */
export interface Trace {
  readonly logits: Float32Array; // [T, V]
  /** The residual stream after the embedding and after every layer: L + 1 of [T, D]. */
  readonly hidden: readonly Float32Array[];
  /** With the router on: the specific experts' gates of every adapted linear, [T, E - 1]. */
  readonly gates: ReadonlyMap<string, Float32Array>;
}

/** Where rows of a result are collected over chunks. */
class Collector {
  readonly #gpu: Gpu;
  readonly #staging: GPUBuffer;
  readonly #bytesPerRow: number;
  readonly #count: number;

  constructor(gpu: Gpu, rows: number, bytesPerRow: number) {
    this.#gpu = gpu;
    this.#bytesPerRow = bytesPerRow;
    this.#count = (rows * bytesPerRow) / 4;
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    const size = Math.ceil((rows * bytesPerRow) / 16) * 16;
    this.#staging = gpu.device.createBuffer({ label: 'trace', size, usage });
  }

  copy(encoder: GPUCommandEncoder, from: GPUBuffer, row: number, rows: number): void {
    const bytes = this.#bytesPerRow;
    encoder.copyBufferToBuffer(from, 0, this.#staging, row * bytes, rows * bytes);
  }

  async read(): Promise<Float32Array<ArrayBuffer>> {
    const values = new Float32Array(this.#count);
    await this.#gpu.read(this.#staging, values);
    this.#staging.destroy();
    return values;
  }
}

/** Runs tokens from position 0 on, chunk by chunk, and reads back what every layer made. */
export async function traceTokens(
  parts: ForwardParts,
  forward: Forward,
  tokens: readonly number[],
  routed: boolean,
): Promise<Trace> {
  const { gpu, sizes, state, adapter } = parts;
  const count = tokens.length;
  const logits = new Collector(gpu, count, sizes.vocab * 4);
  const hidden = Array.from(
    { length: sizes.layers + 1 },
    () => new Collector(gpu, count, sizes.width * 4),
  );
  const routes = new Map<string, Collector>();
  for (const [tensor, site] of routed ? (adapter?.sites ?? []) : []) {
    const bytesPerRow = site.linears.length * (adapter?.info.experts ?? 0) * 4;
    routes.set(tensor, new Collector(gpu, count, bytesPerRow));
  }
  for (let start = 0; start < count; start += state.chunk) {
    const chunk = tokens.slice(start, start + state.chunk);
    const write = (buffer: GPUBuffer, values: number[]): void =>
      gpu.device.queue.writeBuffer(buffer, 0, new Uint32Array(values));
    write(state.tokens, chunk);
    write(state.params, [chunk.length, start, 0, 0]);
    const layers = [forward.embed(chunk).flat(), ...forward.layers(chunk.length, routed)];
    layers.forEach((steps, i) => {
      const encoder = gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      gpu.encode(pass, steps, chunk.length);
      pass.end();
      hidden[i]?.copy(encoder, state.x, start, chunk.length);
      gpu.device.queue.submit([encoder.finish()]);
    });
    const encoder = gpu.device.createCommandEncoder();
    for (const [tensor, buffer] of state.routes) {
      routes.get(tensor)?.copy(encoder, buffer, start, chunk.length);
    }
    gpu.device.queue.submit([encoder.finish()]);
    for (let row = 0; row < chunk.length; row++) {
      write(state.headParams, [1, start, row, 0]);
      const encoder = gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      gpu.encode(pass, forward.head, 1);
      pass.end();
      logits.copy(encoder, state.logits, start + row, 1);
      gpu.device.queue.submit([encoder.finish()]);
    }
  }
  return {
    logits: await logits.read(),
    hidden: await Promise.all(hidden.map((collector) => collector.read())),
    gates: await readGates(parts, routes),
  };
}

/** The gates of every linear apart, without the universal expert and without alpha / r. */
async function readGates(
  { adapter }: ForwardParts,
  routes: ReadonlyMap<string, Collector>,
): Promise<Map<string, Float32Array>> {
  const gates = new Map<string, Float32Array>();
  if (adapter === null) return gates;
  const { experts } = adapter.info;
  for (const [tensor, collector] of routes) {
    const values = await collector.read();
    const linears = adapter.sites.get(tensor)?.linears ?? [];
    const stride = linears.length * experts;
    linears.forEach(({ linear }, s) => {
      const rows = Array.from({ length: values.length / stride }, (_, t) => {
        const at = t * stride + s * experts;
        return Array.from(values.subarray(at + 1, at + experts), (gate) => gate / adapter.scale);
      });
      gates.set(linear, Float32Array.from(rows.flat()));
    });
  }
  return gates;
}
