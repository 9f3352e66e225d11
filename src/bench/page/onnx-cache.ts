import type * as Ort from 'onnxruntime-web';
import type { Manifest } from '../../format/manifest.ts';

type Tensors = Record<string, Ort.Tensor>;

/** Keys and values between runs, as fast as each provider can have them. */
export interface Cache {
  /** Feeds of a run after `past` tokens, and outputs that have a place already. */
  inputs(past: number): {
    readonly feeds: Tensors;
    readonly fetches: Record<string, Ort.Tensor | null>;
  };
  /** Takes what a run gave. */
  take(results: Readonly<Tensors>, total: number): void;
}

export async function createCache(
  ort: typeof Ort,
  manifest: Manifest,
  webgpu: boolean,
): Promise<Cache> {
  return webgpu ? shared(ort, manifest) : copied(ort, manifest);
}

const sides = ['key', 'value'] as const;

function eachSide(manifest: Manifest, make: (past: string, present: string) => void): void {
  for (let i = 0; i < manifest.config.layers; i++) {
    for (const side of sides) make(`past_key_values.${i}.${side}`, `present.${i}.${side}`);
  }
}

/** WebGPU: buffers for the whole capacity, both past and present, so that nothing is copied. */
async function shared(ort: typeof Ort, manifest: Manifest): Promise<Cache> {
  const { kvHeads, headDim, capacity } = manifest.config;
  const device = await ort.env.webgpu.device;
  const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
  const dims = [1, kvHeads, capacity, headDim];
  const size = kvHeads * capacity * headDim * 4;
  const feeds: Tensors = {};
  const fetches: Record<string, Ort.Tensor | null> = { logits: null };
  eachSide(manifest, (past, present) => {
    const buffer = device.createBuffer({ label: past, size, usage: STORAGE | COPY_SRC | COPY_DST });
    const tensor = ort.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims });
    feeds[past] = tensor;
    fetches[present] = tensor;
  });
  return { inputs: () => ({ feeds, fetches }), take: () => undefined };
}

/** WebAssembly: outputs become the next inputs. A past that never was is zeros. */
function copied(ort: typeof Ort, manifest: Manifest): Cache {
  const { kvHeads, headDim } = manifest.config;
  const pasts = new Map<number, Tensors>();
  const fetches: Record<string, Ort.Tensor | null> = { logits: null };
  eachSide(manifest, (_, present) => (fetches[present] = null));
  const empty = (length: number): Tensors => {
    const feeds: Tensors = {};
    eachSide(manifest, (past) => {
      const zeros = new Float32Array(kvHeads * length * headDim);
      feeds[past] = new ort.Tensor('float32', zeros, [1, kvHeads, length, headDim]);
    });
    return feeds;
  };
  return {
    inputs(past) {
      const feeds = pasts.get(past) ?? empty(past);
      return { feeds, fetches };
    },
    take(results, total) {
      const feeds: Tensors = {};
      eachSide(manifest, (past, present) => {
        const tensor = results[present];
        if (tensor === undefined) throw new Error(`no output ${present}`);
        feeds[past] = tensor;
      });
      pasts.set(total, feeds);
    },
  };
}
