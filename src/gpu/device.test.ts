import { describe, expect, it, vi } from 'vitest';
import { requestGpu } from './device.ts';
import { Gpu } from './gpu.ts';
import { gpuCases, openNullGpu, openTestGpu, testDriver } from './testing.ts';
import {
  carefulTuning,
  gpuTuning,
  lanesFor,
  mesaTuning,
  softwareTuning,
  tuningFor,
} from './tuning.ts';

const options = { title: '', variant: 'f32', tuning: softwareTuning } as const;

function adapterInfo(part: Partial<GPUAdapterInfo>): GPUAdapterInfo {
  return {
    __brand: 'GPUAdapterInfo',
    vendor: '',
    architecture: '',
    device: '',
    description: '',
    subgroupMinSize: 4,
    subgroupMaxSize: 128,
    isFallbackAdapter: false,
    ...part,
  };
}

describe('requestGpu', () => {
  it('says that there is no WebGPU, no adapter or no device', async () => {
    await expect(requestGpu(undefined)).rejects.toMatchObject({ name: 'NoWebGpu' });
    const gpu = testDriver('f32');
    const adapter = await gpu.requestAdapter();
    if (adapter === null) throw new Error('the driver has just given one');
    const request = vi.spyOn(gpu, 'requestAdapter');
    request.mockResolvedValueOnce(null);
    await expect(requestGpu(gpu)).rejects.toMatchObject({ name: 'NoWebGpu' });
    request.mockResolvedValueOnce(adapter);
    vi.spyOn(adapter, 'requestDevice').mockRejectedValueOnce(new Error('no'));
    await expect(requestGpu(gpu)).rejects.toMatchObject({ name: 'NoWebGpu' });
    request.mockRestore();
  });

  it('asks for default limits, whatever the adapter has', async () => {
    const { device } = await requestGpu(testDriver('f32'));
    expect(device.limits.maxStorageBufferBindingSize).toBe(128 << 20);
    expect(device.limits.maxStorageBuffersPerShaderStage).toBe(8);
    expect(device.limits.maxComputeWorkgroupStorageSize).toBe(16 << 10);
    expect(device.limits.maxComputeInvocationsPerWorkgroup).toBe(256);
  });

  it('refuses f16 on an adapter without shader-f16 and takes f32 there by itself', async () => {
    const gpu = testDriver('f32');
    const adapter = await gpu.requestAdapter();
    if (adapter === null) throw new Error('the driver has just given one');
    const without = new Proxy(adapter, {
      get: (target, key) => {
        if (key === 'features') return new Set();
        const value: unknown = Reflect.get(target, key, target);
        const bound: unknown = typeof value === 'function' ? value.bind(target) : value;
        return bound;
      },
    });
    const request = vi.spyOn(gpu, 'requestAdapter').mockResolvedValue(without);
    await expect(requestGpu(gpu, { variant: 'f16' })).rejects.toMatchObject({
      name: 'DeviceLimit',
    });
    expect((await requestGpu(gpu, { tuning: gpuTuning })).variant).toBe('f32');
    request.mockRestore();
  });

  it('takes f16 by itself on a GPU that has it, not in software', async () => {
    const has = gpuCases.some(({ variant }) => variant === 'f16');
    const driver = testDriver(has ? 'f16' : 'f32');
    expect((await requestGpu(driver, { tuning: gpuTuning })).variant).toBe(has ? 'f16' : 'f32');
    expect((await requestGpu(driver, { tuning: softwareTuning })).variant).toBe('f32');
  });

  it('names the adapter and resolves lost with a reason', async () => {
    const gpu = await requestGpu(testDriver('f32'));
    expect(gpu.adapterName).toMatch(/\w+/);
    gpu.device.destroy();
    expect(await gpu.lost).toMatch(/^destroyed/);
  });
});

describe('errors of WebGPU', () => {
  it('never stay silent: the next wait throws them', async () => {
    const gpu = await openTestGpu(options);
    await gpu.idle();
    gpu.device.createBuffer({ label: 'bad', size: 16, usage: GPUBufferUsage.MAP_READ | 128 });
    await expect(gpu.idle()).rejects.toThrow(/WebGPU reported 1 errors/);
    await expect(gpu.read(gpu.staging('test', 16), new Float32Array(4))).rejects.toThrow('WebGPU');
  });

  it('in a shader name kernel and line', async () => {
    const gpu = await openTestGpu(options);
    const broken = '@compute @workgroup_size(1)\nfn main() { let x: i32 = 1.5; }\n';
    await expect(gpu.kernel('broken', broken, {})).rejects.toThrow(/broken\.wgsl:2:\d+ /);
  });

  it('in an override name kernel and constants', async () => {
    const gpu = await openTestGpu(options);
    const wgsl = 'override WG: u32;\n@compute @workgroup_size(WG)\nfn main() {}\n';
    await expect(gpu.kernel('wide', wgsl, { WG: 4096 })).rejects.toThrow(/wide\.wgsl with .*4096/);
  });

  it('of memory are a limit of the device', async () => {
    const gpu = await openNullGpu({ variant: 'f32', tuning: gpuTuning });
    const full = Object.assign(new Error('full'), { __brand: 'GPUOutOfMemoryError' as const });
    vi.spyOn(gpu.device, 'popErrorScope').mockResolvedValueOnce(full);
    const load = gpu.withinMemory('the model', () => Promise.resolve(1));
    await expect(load).rejects.toMatchObject({ name: 'DeviceLimit' });
    await expect(gpu.withinMemory('it', () => Promise.resolve(1))).resolves.toBe(1);
    const failing = gpu.withinMemory('it', () => Promise.reject(new Error('other')));
    await expect(failing).rejects.toThrow('other');
  });
});

describe('kernels', () => {
  it('are compiled once for the same overrides, also while being compiled', async () => {
    const gpu = new Gpu(await requestGpu(testDriver('f32')));
    const create = vi.spyOn(gpu.device, 'createComputePipelineAsync');
    const wgsl = 'override WG: u32;\n@compute @workgroup_size(WG)\nfn main() {}\n';
    await Promise.all([gpu.kernel('k', wgsl, { WG: 1 }), gpu.kernel('k', wgsl, { WG: 1 })]);
    await gpu.kernel('k', wgsl, { WG: 2 });
    expect(create).toHaveBeenCalledTimes(2);
  });
});

describe('tuning', () => {
  it.each([
    [{ isFallbackAdapter: true }, softwareTuning],
    [{ vendor: 'google', architecture: 'swiftshader' }, softwareTuning],
    [{ vendor: 'mesa', description: 'llvmpipe (LLVM 15.0.6, 256 bits)' }, mesaTuning],
    [{ vendor: 'nvidia', architecture: 'hopper' }, gpuTuning],
    [{ vendor: 'arm', architecture: 'valhall' }, gpuTuning],
    [{}, gpuTuning],
  ])('of %o is cut for what it is', (info, expected) => {
    expect(tuningFor(adapterInfo(info))).toBe(expected);
  });

  it('of the careful way asks for no more of anything than the others, and for less at once', () => {
    for (const other of [softwareTuning, mesaTuning, gpuTuning]) {
      for (const [name, value] of Object.entries(other)) {
        const careful = carefulTuning[name as keyof typeof other];
        if (typeof value !== 'number' || name === 'matmulFrom') continue;
        expect(careful, name).toBeLessThanOrEqual(value);
      }
      expect(carefulTuning.chunk).toBeLessThan(other.chunk);
    }
    expect(carefulTuning).toMatchObject({
      matvec: { lanes: 1, subgroup: 1, int8: false },
      matvecTokens: 1,
      rowLanes: 1,
      factors: 'halves',
      adapterDown: { lanes: 1 },
      attentionTeam: 1,
      attentionSlices: 1,
      matmulFrom: Infinity,
      stepsInFlight: 1,
    });
  });

  it('gives each lane about two loads, and a driver in software one lane', () => {
    expect([1, 10, 27, 160].map((units) => lanesFor(gpuTuning.rowLanes, units))).toEqual([
      1, 4, 8, 32,
    ]);
    expect(lanesFor(softwareTuning.rowLanes, 160)).toBe(1);
  });
});
