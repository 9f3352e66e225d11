import { Failure } from '../failure.ts';
import { GROUP_SIZE, type Manifest, type TensorInfo } from '../format/manifest.ts';

/** What ONNX Runtime in a browser can hold and run; known before anything is loaded. */

/** Addresses of 32-bit WebAssembly, and what of them is left to code, activations and the cache. */
const WASM_BYTES = 2 ** 32;
const WASM_RESERVE = 2 ** 29;

/** GroupQueryAttention turns whole vectors: Dh/2 must be a multiple of this. */
const ROTARY_STEP = 8;

/** A model as far as its size goes; its tensors need no places yet. */
export interface Described extends Pick<Manifest, 'id' | 'config'> {
  readonly tensors: readonly {
    readonly dtype: TensorInfo['dtype'];
    readonly shape: readonly number[];
  }[];
}

/** As f32 matrices so many bytes pay: some 60 million weights. */
const MOST_UNPACKED = 2 ** 28;

/** Whether a model is small enough to be kept as f32 matrices, see `WeightOptions.unpacked`. */
export function fitsUnpacked({ tensors }: Pick<Described, 'tensors'>): boolean {
  return tensors.reduce((sum, { shape }) => sum + 4 * valuesOf(shape), 0) <= MOST_UNPACKED;
}

const valuesOf = (shape: readonly number[]): number => (shape[0] ?? 0) * (shape[1] ?? 1);

/** Bytes that ONNX Runtime keeps: q planes as they are, scales and everything else in f32. */
function runtimeBytes({ tensors }: Described): number {
  return tensors.reduce((sum, tensor) => {
    const values = valuesOf(tensor.shape);
    const bits = { q4: 4, q8: 8, f16: 32, f32: 32 }[tensor.dtype];
    const scales = bits < 32 ? 32 / GROUP_SIZE : 0;
    return sum + (values * (bits + scales)) / 8;
  }, 0);
}

/**
 * Says early what ONNX Runtime in a browser cannot run.
 * @throws Failure CpuLimit that says what is too large or has the wrong shape
 */
export function checkRunnable(manifest: Described): void {
  const { headDim, positions } = manifest.config;
  if (positions.kind === 'rope' && headDim % (2 * ROTARY_STEP) !== 0) {
    throw new Failure(
      'CpuLimit',
      `headDim ${headDim}: ONNX Runtime turns heads of whole ${2 * ROTARY_STEP}s only`,
    );
  }
  const bytes = runtimeBytes(manifest);
  if (bytes > WASM_BYTES - WASM_RESERVE) {
    const gib = (value: number): string => (value / 2 ** 30).toFixed(2);
    throw new Failure(
      'CpuLimit',
      `${manifest.id}: its weights need ${gib(bytes)} GiB in ONNX Runtime, whose 32-bit WebAssembly ` +
        `has ${gib(WASM_BYTES)} GiB of addresses, ${gib(WASM_RESERVE)} of them for everything else; ` +
        'use the WebGPU engine for this package',
    );
  }
}
