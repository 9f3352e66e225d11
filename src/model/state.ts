import { alibiSlopes } from '../gpu/kernels/attention.ts';
import { cacheLayout, type CacheLayout } from '../gpu/kernels/cache.ts';
import { ropeTable } from '../gpu/kernels/rope.ts';
import type { Gpu } from '../gpu/gpu.ts';
import type { Adapter } from './adapter.ts';
import type { Sizes } from './config.ts';

/** Keys and values of one layer. */
export interface LayerCache {
  readonly keys: GPUBuffer; // see cacheLayout
  readonly values: GPUBuffer; // see cacheLayout
}

/** What one conversation changes: allocated once for chunks of C tokens, reused by every pass. */
export interface State {
  readonly chunk: number; // C
  readonly params: GPUBuffer; // of the pass
  readonly headParams: GPUBuffer; // of the head: which row of x it reads
  readonly tokens: GPUBuffer; // u32 [C]
  readonly angles: GPUBuffer | null; // f32 [S, Dh/2, 2], rotary positions only
  readonly slopes: GPUBuffer; // f32 [H], zeros where positions are rotary
  readonly x: GPUBuffer; // f32 [C, D], the residual stream
  readonly normed: GPUBuffer; // elem [C, D]
  readonly qkv: GPUBuffer; // f32 [C, (H + 2 K) * Dh]
  readonly slices: GPUBuffer; // f32 [H, slices, Dh + 4] of attention_decode
  readonly attended: GPUBuffer; // elem [C, H * Dh]
  readonly gateUp: GPUBuffer; // f32 [C, 2 F]
  readonly hidden: GPUBuffer; // elem [C, F]
  readonly middle: GPUBuffer; // f32 [C, S, P] of the adapter
  readonly routes: ReadonlyMap<string, GPUBuffer>; // per tensor, f32 [C, S, E], routed packages only
  readonly layers: readonly LayerCache[];
  readonly cache: CacheLayout; // of keys and of values of every layer
  readonly logits: GPUBuffer; // f32 [V]
  readonly staging: GPUBuffer; // of the logits
}

export function createState(gpu: Gpu, sizes: Sizes, adapter: Adapter | null): State {
  const { chunk, attentionSlices } = gpu.tuning;
  const { width, mlpWidth, vocab, heads, headDim } = sizes;
  const f32 = (label: string, count: number): GPUBuffer => gpu.storage(label, count * 4);
  const elem = (label: string, count: number): GPUBuffer =>
    gpu.storage(label, count * gpu.elemBytes);
  const cache = cacheLayout(gpu, sizes);
  return {
    chunk,
    params: gpu.params('params'),
    headParams: gpu.params('head params'),
    tokens: f32('tokens', chunk),
    ...positionTables(gpu, sizes, f32),
    x: f32('x', chunk * width),
    normed: elem('normed', chunk * width),
    qkv: f32('qkv', chunk * sizes.qkvRows),
    slices: f32('slices', attentionSlices * heads * (headDim + 4)),
    attended: elem('attended', chunk * sizes.queryWidth),
    gateUp: f32('gate and up', chunk * 2 * mlpWidth),
    hidden: elem('hidden', chunk * mlpWidth),
    ...adapterState(chunk, adapter, f32),
    layers: Array.from({ length: sizes.layers }, (_, i) => ({
      keys: gpu.storage(`keys ${i}`, cache.bytes),
      values: gpu.storage(`values ${i}`, cache.bytes),
    })),
    cache,
    logits: f32('logits', vocab),
    staging: gpu.staging('logits', vocab * 4),
  };
}

/** What rotary positions or linear biases need; made on the CPU. */
function positionTables(
  gpu: Gpu,
  { capacity, heads, headDim, positions }: Sizes,
  f32: (label: string, count: number) => GPUBuffer,
): Pick<State, 'angles' | 'slopes'> {
  const { queue } = gpu.device;
  const slopes = f32('slopes', heads);
  if (positions.kind === 'alibi') {
    queue.writeBuffer(slopes, 0, alibiSlopes(heads));
    return { angles: null, slopes };
  }
  const angles = f32('angles', capacity * headDim);
  queue.writeBuffer(angles, 0, ropeTable(capacity, headDim, positions.theta));
  return { angles, slopes };
}

function adapterState(
  chunk: number,
  adapter: Adapter | null,
  f32: (label: string, count: number) => GPUBuffer,
): Pick<State, 'middle' | 'routes'> {
  if (adapter === null) return { middle: f32('no adapter', 4), routes: new Map() };
  const sites = [...adapter.sites];
  const most = Math.max(...sites.map(([, { linears }]) => linears.length));
  const routed = sites.filter(([, { router }]) => router !== null);
  return {
    middle: f32('adapter', chunk * most * adapter.padded),
    routes: new Map(
      routed.map(([tensor, { linears }]) => {
        const count = chunk * linears.length * adapter.info.experts;
        return [tensor, f32(`gates of ${tensor}`, count)] as const;
      }),
    ),
  };
}
