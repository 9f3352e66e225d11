import { beforeEach, describe, expect, it, vi } from 'vitest';
import { Failure, type FailureName } from '../failure.ts';
import { exampleManifest } from '../format/testing.ts';
import type { GpuDevice } from '../gpu/device.ts';
import { carefulTuning } from '../gpu/tuning.ts';
import { describe as describePackage } from './info.ts';
import { FallbackMaker, WgslMaker, type BackendMaker } from './recovery.ts';
import { ScriptedBackend } from './testing.ts';

/** Devices on which what a test names fails, and the way down from one to the next. */

/** How opening a backend ends, by what it computes in; what is not named is good. */
const fails = vi.hoisted((): { by: Record<string, string> } => ({ by: {} }));
const opened = vi.hoisted((): string[] => []);

const nameOf = ({ variant, cache, adapterName }: GpuDevice): string =>
  `${adapterName} ${variant}${cache === 'int8' ? ' int8' : ''}`;

vi.mock('./backends/wgsl.ts', () => ({
  openWgsl: (gpu: GpuDevice) => {
    opened.push(nameOf(gpu));
    const name = fails.by[nameOf(gpu)];
    if (name !== undefined) return Promise.reject(new Failure(name as FailureName, 'planted'));
    return Promise.resolve(new ScriptedBackend([], nameOf(gpu)));
  },
}));

function device(adapterName: string, variant: GpuDevice['variant'], cache: GpuDevice['cache']) {
  const parts = { adapterName, variant, cache, tuning: carefulTuning };
  return parts as GpuDevice; // nothing else of it is asked for
}

const parts = {
  manifest: { ...exampleManifest('merged'), knownAnswer: null },
  read: () => Promise.reject(new Error('nothing is read')),
  selfTest: true,
  onUpload: () => undefined,
  onSelfTest: () => undefined,
  measurements: undefined,
};

/** A maker on the device 'old', whose successors after a loss are called 'new'. */
function makerOn(variant: GpuDevice['variant'], cache: GpuDevice['cache'] = 'elem') {
  const renewGpu = () => Promise.resolve(device('new', 'f32', 'elem'));
  return new WgslMaker({ ...parts, gpu: device('old', variant, cache), renewGpu });
}

const cpu = new ScriptedBackend([], 'cpu');
const onCpu: BackendMaker = {
  first: () => Promise.resolve({ backend: cpu, selfTest: null }),
  helps: () => null,
  another: (cause) => Promise.reject(new Failure(cause, 'the CPU')),
};

const wrong = (from: string) => ({ from, because: 'WrongNumbers' });

beforeEach(() => {
  fails.by = {};
  opened.length = 0;
});

describe('on the way down at load', () => {
  it('nothing was tried before what is good at once', async () => {
    const { fellBack } = await makerOn('f16').first();
    expect(fellBack).toEqual([]);
  });

  it('8 bits, f16 and f32 are tried in this order, and what was left is told', async () => {
    fails.by = { 'old f16 int8': 'WrongNumbers', 'old f16': 'WrongNumbers' };
    const checked = await makerOn('f16', 'int8').first();
    expect(opened).toEqual(['old f16 int8', 'old f16', 'old f32']);
    const tried = [wrong('WebGPU f16 int8'), wrong('WebGPU f16')];
    expect(checked.fellBack).toEqual(tried);
    expect(describePackage(parts.manifest, 0, checked).fellBack).toEqual(tried);
  });

  it('what fails otherwise is no reason to compute more exactly', async () => {
    fails.by = { 'old f16': 'DeviceLimit' };
    await expect(makerOn('f16').first()).rejects.toMatchObject({ name: 'DeviceLimit' });
    expect(opened).toEqual(['old f16']);
  });

  it('the last of it fails with wrong numbers', async () => {
    fails.by = { 'old f16': 'WrongNumbers', 'old f32': 'WrongNumbers' };
    await expect(makerOn('f16').first()).rejects.toMatchObject({ name: 'WrongNumbers' });
  });

  it.each(['WrongNumbers', 'DeviceLimit', 'DeviceLost', 'NoWebGpu'] as const)(
    'the CPU comes after f32 fails with %s, and all that was tried is told',
    async (because) => {
      fails.by = { 'old f16': 'WrongNumbers', 'old f32': because };
      const { backend, fellBack } = await new FallbackMaker(makerOn('f16'), onCpu).first();
      expect(backend).toBe(cpu);
      const last = { from: 'WebGPU f32', because };
      expect(fellBack).toEqual([wrong('WebGPU f16'), last]);
    },
  );
});

describe('on the way down in use', () => {
  it('f32 comes after f16 that fails on a renewed device, not the CPU', async () => {
    const maker = new FallbackMaker(makerOn('f16'), onCpu);
    await maker.first();
    fails.by = { 'new f16': 'WrongNumbers' };
    const { backend, fellBack } = await maker.another('DeviceLost');
    expect(opened).toEqual(['old f16', 'new f16', 'new f32']);
    expect(backend.adapterName).toBe('new f32');
    expect(fellBack).toEqual([wrong('WebGPU f16')]);
  });

  it('f32 comes after 8 bits and f16 that both turn out wrong', async () => {
    const maker = makerOn('f16', 'int8');
    await maker.first();
    fails.by = { 'old f16': 'WrongNumbers' };
    const { backend, fellBack } = await maker.another('WrongNumbers');
    expect(backend.adapterName).toBe('old f32');
    expect(fellBack).toEqual([wrong('WebGPU f16 int8'), wrong('WebGPU f16')]);
  });

  it('the CPU comes where f32 fails too, and what failed in use is told with the rest', async () => {
    const maker = new FallbackMaker(makerOn('f16'), onCpu);
    await maker.first();
    fails.by = { 'old f32': 'WrongNumbers' };
    const { backend, fellBack } = await maker.another('WrongNumbers');
    expect(backend).toBe(cpu);
    expect(fellBack).toEqual([wrong('WebGPU f16'), wrong('WebGPU f32')]);
  });
});
