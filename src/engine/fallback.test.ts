import { describe, expect, it } from 'vitest';
import { Failure, type FailureName } from '../failure.ts';
import {
  FallbackMaker,
  type BackendMaker,
  type Checked,
  type GpuMaker,
  type RecoveryCause,
} from './recovery.ts';
import { ScriptedBackend } from './testing.ts';

/** A GPU that fails, and a CPU that goes on. */

const checked = (): Checked => ({ backend: new ScriptedBackend([]), selfTest: null });

function setup({ firstFails, knows = [] }: { firstFails?: FailureName; knows?: RecoveryCause[] }) {
  const calls: string[] = [];
  const onGpu = checked();
  const onCpu = checked();
  const left = [...knows];
  const gpu: GpuMaker = {
    first: () => {
      calls.push('gpu');
      return firstFails ? Promise.reject(new Failure(firstFails, '')) : Promise.resolve(onGpu);
    },
    helps: (error) =>
      left.find((cause) => error instanceof Failure && error.name === cause) ?? null,
    another: (cause) => {
      calls.push(`gpu again: ${cause}`);
      left.splice(left.indexOf(cause), 1);
      return Promise.resolve(onGpu);
    },
    triedUntil: (because) => [{ from: 'a GPU', because }],
  };
  const cpu: BackendMaker = {
    first: () => {
      calls.push('cpu');
      return Promise.resolve(onCpu);
    },
    helps: () => null,
    another: (cause) => Promise.reject(new Failure(cause, 'the CPU')),
  };
  return { maker: new FallbackMaker(gpu, cpu), calls, onGpu, onCpu };
}

describe('the first backend', () => {
  it('is the GPU’s where that works', async () => {
    const { maker, calls, onGpu } = setup({});
    expect(await maker.first()).toBe(onGpu);
    expect(calls).toEqual(['gpu']);
  });

  it.each(['WrongNumbers', 'DeviceLimit', 'DeviceLost', 'NoWebGpu'] as const)(
    'is the CPU’s where the GPU ends with %s',
    async (firstFails) => {
      const { maker, onCpu } = setup({ firstFails });
      const fellBack = [{ from: 'a GPU', because: firstFails }];
      expect(await maker.first()).toEqual({ ...onCpu, fellBack });
    },
  );

  it.each(['ShardCorrupt', 'Offline', 'BadPackage'] as const)(
    'is none where the package fails: %s',
    async (firstFails) => {
      const { maker, calls } = setup({ firstFails });
      await expect(maker.first()).rejects.toMatchObject({ name: firstFails });
      expect(calls).toEqual(['gpu']);
    },
  );
});

describe('another backend', () => {
  it('is the GPU’s as long as that knows one, then the CPU’s, then none', async () => {
    const { maker, calls, onGpu, onCpu } = setup({ knows: ['DeviceLost'] });
    await maker.first();
    const lost = new Failure('DeviceLost', 'driver reset');
    expect(maker.helps(lost)).toBe('DeviceLost');
    expect(await maker.another('DeviceLost')).toBe(onGpu);
    expect(maker.helps(lost)).toBe('DeviceLost');
    expect((await maker.another('DeviceLost')).backend).toBe(onCpu.backend);
    expect(calls).toEqual(['gpu', 'gpu again: DeviceLost', 'cpu']);
    expect(maker.helps(lost)).toBeNull();
    await expect(maker.another('DeviceLost')).rejects.toMatchObject({ name: 'DeviceLost' });
  });

  it('does not help against what is no failure of the GPU', async () => {
    const { maker } = setup({});
    await maker.first();
    expect(maker.helps(new Failure('PromptTooLong', ''))).toBeNull();
    expect(maker.helps(new TypeError('bug'))).toBeNull();
  });
});
