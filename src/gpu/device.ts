import { Failure } from '../failure.ts';
import type { CacheType } from './prelude.ts';
import { tuningFor, type Tuning } from './tuning.ts';

/** What activations and the KV cache are stored as; sums and the residual stream are always f32. */
export type Variant = 'f32' | 'f16';

/** A WebGPU device with default limits, and what was found out about its adapter. */
export interface GpuDevice {
  readonly device: GPUDevice;
  readonly variant: Variant;
  /** What keys and values are kept as. */
  readonly cache: CacheType;
  readonly adapterName: string;
  /** Everything that is known of adapter, driver and features, in words: a key for measurements. */
  readonly identity: string;
  readonly features: ReadonlySet<string>;
  /** What WGSL itself offers beyond its first version. */
  readonly language: ReadonlySet<string>;
  /** Fewest invocations of a subgroup, in any kernel; null where the adapter does not say. */
  readonly leastSubgroup: number | null;
  readonly tuning: Tuning;
  /** Resolves with the reason when the device is lost or destroyed. */
  readonly lost: Promise<string>;
  /** Throws the first error that no error scope caught, so that none stays silent. */
  check(): void;
}

export interface GpuOptions {
  /** 'auto' takes f16 on a GPU that has shader-f16; software drivers only emulate it. */
  readonly variant?: Variant | 'auto';
  /** 'int8' halves the KV cache of f16 and changes numbers a little. Default 'elem'. */
  readonly cache?: CacheType;
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
    cache: options.cache ?? 'elem',
    adapterName: nameOf(adapter.info),
    identity: identityOf(adapter.info, device),
    features: new Set(device.features),
    language: new Set(gpu.wgslLanguageFeatures),
    leastSubgroup: adapter.info.subgroupMinSize ?? null,
    tuning,
    lost: device.lost.then(({ reason, message }) => `${reason}: ${message}`),
    check: () => {
      const [first] = errors;
      if (first !== undefined) throw new Error(`WebGPU reported ${errors.length} errors: ${first}`);
    },
  };
}

/** Whether activations or the KV cache are rounded to 8 bits. */
export function hasEightBits({ cache, tuning }: GpuDevice): boolean {
  return cache === 'int8' || tuning.matvec.int8;
}

/**
 * The same device with the next more exact numbers: no 8 bits, then no f16; null where there is
 * nothing more exact.
 */
export function plainer(gpu: GpuDevice): GpuDevice | null {
  if (hasEightBits(gpu)) {
    const matvec = { ...gpu.tuning.matvec, int8: false };
    return { ...gpu, cache: 'elem', tuning: { ...gpu.tuning, matvec } };
  }
  return gpu.variant === 'f16' ? { ...gpu, variant: 'f32' } : null;
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

function identityOf(info: GPUAdapterInfo, device: GPUDevice): string {
  const { vendor, architecture, device: model, description } = info;
  // Not in the standard: some browsers tell it to developers, and their description holds it.
  const driver: unknown = Reflect.get(info, 'driver');
  const features = [...device.features].sort();
  return JSON.stringify([vendor, architecture, model, description, driver ?? '', features]);
}
