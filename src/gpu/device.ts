import { Failure } from '../failure.ts';
import { tuningFor, type Tuning } from './tuning.ts';

/** What activations and the KV cache are stored as; sums and the residual stream are always f32. */
export type Variant = 'f32' | 'f16';

/** A WebGPU device with default limits, and what was found out about its adapter. */
export interface GpuDevice {
  readonly device: GPUDevice;
  readonly variant: Variant;
  readonly adapterName: string;
  readonly features: ReadonlySet<string>;
  readonly tuning: Tuning;
  /** Resolves with the reason when the device is lost or destroyed. */
  readonly lost: Promise<string>;
  /** Throws the first error that no error scope caught, so that none stays silent. */
  check(): void;
}

export interface GpuOptions {
  /** 'auto' takes f16 on a GPU that has shader-f16; software drivers only emulate it. */
  readonly variant?: Variant | 'auto';
  /** Cuts kernels otherwise than the adapter suggests. */
  readonly tuning?: Tuning;
}

/** Asked for where present, never depended on. */
const wanted: readonly GPUFeatureName[] = ['shader-f16', 'subgroups', 'timestamp-query'];

/**
 * Opens the GPU. Limits are the defaults of WebGPU, whatever the adapter offers.
 * @throws Failure NoWebGpu (no WebGPU, no adapter, no device), DeviceLimit (f16 asked of a GPU without it)
 */
export async function requestGpu(
  gpu: GPU | undefined,
  options: GpuOptions = {},
): Promise<GpuDevice> {
  if (gpu === undefined) throw new Failure('NoWebGpu', 'this browser has no WebGPU');
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (adapter === null) throw new Failure('NoWebGpu', 'WebGPU found no adapter');
  const tuning = options.tuning ?? tuningFor(adapter.info);
  const variant = chooseVariant(adapter, options.variant ?? 'auto', tuning);
  const device = await openDevice(adapter);
  const errors: string[] = [];
  device.addEventListener('uncapturederror', (event) => {
    errors.push(event.error.message);
  });
  return {
    device,
    variant,
    adapterName: nameOf(adapter.info),
    features: new Set(device.features),
    tuning,
    lost: device.lost.then(({ reason, message }) => `${reason}: ${message}`),
    check: () => {
      const [first] = errors;
      if (first !== undefined) throw new Error(`WebGPU reported ${errors.length} errors: ${first}`);
    },
  };
}

async function openDevice(adapter: GPUAdapter): Promise<GPUDevice> {
  const requiredFeatures = wanted.filter((feature) => adapter.features.has(feature));
  try {
    return await adapter.requestDevice({ label: 'PediatricsGPT', requiredFeatures });
  } catch (cause) {
    throw new Failure('NoWebGpu', 'the adapter gave no device', { cause });
  }
}

function chooseVariant(adapter: GPUAdapter, asked: Variant | 'auto', tuning: Tuning): Variant {
  const f16 = adapter.features.has('shader-f16');
  if (asked === 'f16' && !f16) {
    throw new Failure('DeviceLimit', `${nameOf(adapter.info)} has no shader-f16`);
  }
  if (asked !== 'auto') return asked;
  return f16 && tuning.rowLanes > 1 ? 'f16' : 'f32';
}

function nameOf({ vendor, architecture, device, description }: GPUAdapterInfo): string {
  const name = description === '' ? device : description;
  const parts = [vendor, architecture, name].filter((part) => part !== '');
  return parts.length > 0 ? parts.join(' ') : 'unknown adapter';
}
