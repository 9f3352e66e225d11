import { readFile } from 'node:fs/promises';
import { describe, expect, it, vi } from 'vitest';
import { Failure } from '../failure.ts';
import type { PackageSource } from '../format/source.ts';
import { JsonCalibrations } from '../gpu/calibration-store.ts';
import { requestGpu, type GpuDevice } from '../gpu/device.ts';
import { testDriver } from '../gpu/testing.ts';
import type { LoadProgress } from '../worker/api.ts';
import { testRuntime } from './backends/testing.ts';
import { Engine, type OpenOptions } from './engine.ts';

/** A load that is stopped ends at its next step and leaves nothing on the device. */

vi.setConfig({ testTimeout: 240_000 });

const folder = new URL('../../e2e/fixtures/tiny/', import.meta.url);
const stopped = new Failure('Cancelled', 'the person said so');

/** Files of the package, and what was read of them. */
function files(onRead: (file: string) => void = () => undefined) {
  const read: string[] = [];
  const source: PackageSource = {
    read: (file) => {
      read.push(file);
      onRead(file);
      return readFile(new URL(file, folder));
    },
  };
  return { source, read };
}

/** A device that counts its buffers. */
async function counted(): Promise<{ gpu: GpuDevice; alive: Set<GPUBuffer> }> {
  const gpu = await requestGpu(testDriver('f32'), { variant: 'f32' });
  const alive = new Set<GPUBuffer>();
  const { device } = gpu;
  const createBuffer = device.createBuffer.bind(device);
  device.createBuffer = (descriptor) => {
    const buffer = createBuffer(descriptor);
    alive.add(buffer);
    const destroy = buffer.destroy.bind(buffer);
    buffer.destroy = () => {
      alive.delete(buffer);
      return destroy();
    };
    return buffer;
  };
  return { gpu, alive };
}

/** Opens with a signal that is aborted in a phase of the load. */
async function stoppedIn(phase: LoadProgress['phase'], options: OpenOptions = {}, onGpu = true) {
  const { gpu, alive } = await counted();
  const stop = new AbortController();
  const phases: string[] = [];
  const onProgress = (progress: LoadProgress): void => {
    phases.push(progress.phase);
    if (progress.phase === phase) stop.abort(stopped);
  };
  const { source, read } = files();
  const { signal } = stop;
  const opening = Engine.open(source, onGpu ? gpu : null, { onProgress, signal, ...options });
  await expect(opening).rejects.toBe(stopped);
  return { alive, phases, read };
}

describe('a load that is stopped', () => {
  it('before it begins reads nothing', async () => {
    const { source, read } = files();
    const opening = Engine.open(source, null, { signal: AbortSignal.abort(stopped) });
    await expect(opening).rejects.toBe(stopped);
    expect(read).toEqual([]);
  });

  it('while files are read reads no other one, and frees every buffer', async () => {
    const { alive, phases, read } = await stoppedIn('upload');
    expect(phases.at(-1)).toBe('upload');
    expect(read.filter((file) => file.endsWith('.bin'))).toEqual([]);
    expect(alive.size).toBe(0);
  });

  it('in the self-test compares no answer, and frees every buffer', async () => {
    const { alive, phases } = await stoppedIn('self-test');
    expect(phases.at(-1)).toBe('self-test');
    expect(alive.size).toBe(0);
  });

  it('while kernels are measured keeps no measurement', async () => {
    const set = vi.fn(() => Promise.resolve());
    const stop = new AbortController();
    const get = () => {
      stop.abort(stopped); // the first thing that a calibration asks for
      return Promise.resolve(null);
    };
    const { gpu, alive } = await counted();
    const options = { signal: stop.signal, measurements: new JsonCalibrations(get, set) };
    await expect(Engine.open(files().source, gpu, options)).rejects.toBe(stopped);
    expect(set).not.toHaveBeenCalled();
    expect(alive.size).toBe(0);
  });

  it('on the CPU ends too, and lets go of its session', async () => {
    const release = vi.fn(() => Promise.resolve());
    const createSession: typeof testRuntime.createSession = async (...how) =>
      Object.assign(await testRuntime.createSession(...how), { release });
    const cpu = () => Promise.resolve({ ...testRuntime, createSession });
    const { phases } = await stoppedIn('self-test', { cpu }, false);
    expect(phases).toContain('memory');
    expect(release).toHaveBeenCalledOnce();
  });

  it('does not go over to the CPU', async () => {
    const cpu = vi.fn(() => Promise.resolve(testRuntime));
    await stoppedIn('upload', { cpu });
    expect(cpu).not.toHaveBeenCalled();
  });
});

it('a signal that comes after the load ends nothing, nor what a lost GPU needs', async () => {
  const { gpu } = await counted();
  const stop = new AbortController();
  const renewGpu = () => requestGpu(testDriver('f32'), { variant: 'f32' });
  const engine = await Engine.open(files().source, gpu, { signal: stop.signal, renewGpu });
  stop.abort(stopped);
  gpu.device.destroy();
  const sampling = { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, maxTokens: 4 };
  const turns = [{ role: 'user', text: '宝宝发烧。' }] as const;
  const result = await engine.generate(
    { task: 'medkqa', turns, sampling, seed: 1 },
    () => undefined,
  );
  engine.dispose();
  expect(result.recoveries).toEqual(['DeviceLost']);
  expect(result.outputTokens).toBeGreaterThan(0);
});
