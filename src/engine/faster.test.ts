import { describe, expect, it } from 'vitest';
import { Failure, type FailureName } from '../failure.ts';
import type { Backend } from './backend.ts';
import { FasterMaker, type FasterStore } from './faster.ts';
import type { BackendMaker, Checked } from './recovery.ts';
import { ScriptedBackend } from './testing.ts';

/** A clock that only work moves: each backend's prefill and decode take their own time. */

interface Setup {
  readonly gpuMs?: number;
  readonly cpuMs?: number;
  readonly known?: Backend['name'] | null;
  readonly cpuFails?: Error;
  /** The GPU's maker has gone over to the CPU by itself. */
  readonly gpuIsCpu?: boolean;
}

function setup({ gpuMs = 1, cpuMs = 2, known = null, cpuFails, gpuIsCpu = false }: Setup) {
  let clock = 0;
  const calls: string[] = [];
  const disposed: string[] = [];
  let kept = known;
  const backend = (name: Backend['name'], ms: number): Backend => {
    const scripted = new ScriptedBackend([]);
    scripted.onDecode = () => (clock += ms);
    scripted.onChunk = () => (clock += ms);
    const dispose = () => void disposed.push(name);
    return Object.defineProperties(scripted, {
      name: { value: name },
      dispose: { value: dispose },
    });
  };
  const onGpu: Checked = { backend: backend(gpuIsCpu ? 'onnx' : 'wgsl', gpuMs), selfTest: null };
  const onCpu: Checked = { backend: backend('onnx', cpuMs), selfTest: null };
  const fallback: BackendMaker = {
    first: () => (calls.push('gpu'), Promise.resolve(onGpu)),
    helps: () => 'DeviceLost',
    another: () => (calls.push('gpu again'), Promise.resolve(onGpu)),
  };
  const cpu: BackendMaker = {
    first: () => (calls.push('cpu'), cpuFails ? Promise.reject(cpuFails) : Promise.resolve(onCpu)),
    helps: () => null,
    another: (cause) => Promise.reject(new Failure(cause, 'the CPU')),
  };
  const store: FasterStore = {
    get: () => Promise.resolve(kept),
    set: (winner) => ((kept = winner), Promise.resolve()),
  };
  const maker = new FasterMaker(fallback, cpu, { store, task: 'medkqa', now: () => clock });
  return { maker, calls, disposed, onGpu, onCpu, kept: () => kept };
}

describe('the faster of GPU and CPU', () => {
  it('is the GPU where that is, and the CPU is let go', async () => {
    const { maker, disposed, onGpu, kept } = setup({ gpuMs: 1, cpuMs: 2 });
    expect(await maker.first()).toBe(onGpu);
    expect(disposed).toEqual(['onnx']);
    expect(kept()).toBe('wgsl');
    expect(onGpu.backend.position).toBe(0);
    expect(maker.helps(new Failure('DeviceLost', ''))).toBe('DeviceLost');
  });

  it('is the CPU where that is, and the GPU is let go', async () => {
    const { maker, disposed, onCpu, kept } = setup({ gpuMs: 3, cpuMs: 2 });
    expect(await maker.first()).toBe(onCpu);
    expect(disposed).toEqual(['wgsl']);
    expect(kept()).toBe('onnx');
    expect(maker.helps(new Failure('DeviceLost', ''))).toBeNull();
  });

  it.each([
    ['wgsl', ['gpu']],
    ['onnx', ['cpu']],
  ] as const)('is remembered: %s', async (known, expected) => {
    const { maker, calls, disposed } = setup({ known, gpuMs: 3, cpuMs: 3 });
    expect((await maker.first()).backend.name).toBe(known);
    expect(calls).toEqual(expected);
    expect(disposed).toEqual([]);
  });

  it.each(['CpuLimit', 'WrongNumbers', 'Offline'] satisfies FailureName[])(
    'is the GPU where the CPU ends with %s, remembered as the faster or not',
    async (name) => {
      const cpuFails = new Failure(name, '');
      expect((await setup({ cpuFails }).maker.first()).backend.name).toBe('wgsl');
      const late = setup({ cpuFails, known: 'onnx' });
      expect(await late.maker.first()).toBe(late.onGpu);
      expect(late.maker.helps(new Failure('DeviceLost', ''))).toBe('DeviceLost');
    },
  );

  it('is not asked where the GPU has gone over to the CPU already', async () => {
    const { maker, calls, kept } = setup({ gpuIsCpu: true });
    await maker.first();
    expect(calls).toEqual(['gpu']);
    expect(kept()).toBeNull();
  });

  it('hides no bug, and leaves nothing behind where there is one', async () => {
    const { maker, disposed } = setup({ cpuFails: new TypeError('bug') });
    await expect(maker.first()).rejects.toThrow('bug');
    expect(disposed).toEqual(['wgsl']);
  });
});
