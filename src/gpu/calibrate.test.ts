import { describe, expect, it, vi } from 'vitest';
import { calibrate, type CalibrationOptions } from './calibrate.ts';
import { JsonCalibrations, type CalibrationStore, type Measurements } from './calibration-store.ts';
import { Trial } from './calibration-trial.ts';
import { plainer, requestGpu, type GpuDevice } from './device.ts';
import { matvecCuts } from './matvec-cuts.ts';
import { gpuCases, testDriver } from './testing.ts';
import { gpuTuning, softwareTuning } from './tuning.ts';

// Lavapipe compiles a fused kernel for many seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 300_000 });

const shape = { columns: 96, rows: 72 };

function open(tuning = gpuTuning): Promise<GpuDevice> {
  return requestGpu(testDriver('f32'), { variant: 'f32', tuning });
}

/** A store in memory that says what it was asked. */
function memory() {
  let text: string | null = null;
  const store = new JsonCalibrations(
    () => Promise.resolve(text),
    (written) => {
      text = written;
      return Promise.resolve();
    },
  );
  return { store, get: vi.spyOn(store, 'get'), set: vi.spyOn(store, 'set'), text: () => text };
}

/** Calibrates with times that the test makes up, by title; others are told as wrong. */
async function withTimes(
  times: Record<string, number | null>,
  options: Partial<CalibrationOptions> = {},
  device?: GpuDevice,
) {
  const titles = new Map(
    matvecCuts(gpuTuning.matvec, 4, true).map(({ title, cut }) => [JSON.stringify(cut), title]),
  );
  const spy = vi.spyOn(Trial.prototype, 'measure').mockImplementation((cut) => {
    return Promise.resolve(times[titles.get(JSON.stringify(cut)) ?? ''] ?? null);
  });
  const result = await calibrate(device ?? (await open()), { shape, budgetMs: 1e6, ...options });
  const calls = spy.mock.calls.length;
  spy.mockRestore();
  return { ...result, calls };
}

describe.each(gpuCases)('a trial in $title', ({ variant, tuning }) => {
  it.each([
    [96, 72],
    [2080, 26],
  ])('finds the numbers of every cut right, K=%i N=%i', async (columns, rows) => {
    const device = await requestGpu(testDriver(variant), { variant, tuning });
    const trial = new Trial(device, { columns, rows });
    const all = matvecCuts(tuning.matvec, 4, true);
    // Lavapipe, the driver of f16, compiles each for seconds; the cuts for software are the same.
    const some = variant === 'f16' || tuning.rowLanes === 1;
    for (const { title, cut } of some ? all.slice(0, 2) : all) {
      expect(await trial.measure(cut), title).toBeGreaterThan(0);
    }
    trial.dispose();
  });
});

describe('a trial', () => {
  it('finds wrong numbers: a subgroup that is larger than the real one', async () => {
    const trial = new Trial(await open(), { columns: 4096, rows: 72 });
    const cut = { lanes: 32, workgroup: 64, subgroup: 32, int8: false };
    expect(await trial.measure(cut)).toBeNull();
    trial.dispose();
  });

  it.each([
    [96, 71],
    [40, 72],
    [0, 0],
  ])('refuses %i columns, %i rows', async (columns, rows) => {
    const device = await open();
    expect(() => new Trial(device, { columns, rows })).toThrow(RangeError);
  });
});

describe('calibration', () => {
  it('chooses a cut that was measured, on this very GPU, and destroys what it made', async () => {
    const device = await open(softwareTuning);
    const create = vi.spyOn(device.device, 'createBuffer');
    const { gpu, chosen, times, left } = await calibrate(device, { shape, budgetMs: 1e6 });
    expect(left).toEqual([]);
    expect(Object.keys(times).length).toBeGreaterThan(5);
    expect(Object.values(times).every((ms) => ms !== null && ms > 0)).toBe(true);
    expect(gpu.tuning).toEqual({ ...softwareTuning, matvec: chosen.cut });
    expect(chosen.cut.int8).toBe(false);
    const destroyed = create.mock.results.map(({ value }) => vi.mocked(value as GPUBuffer));
    expect(destroyed.length).toBeGreaterThan(5);
    for (const buffer of destroyed) {
      device.device.pushErrorScope('validation');
      device.device.queue.writeBuffer(buffer, 0, new Uint32Array(1));
      device.device.queue.submit([]);
      // A destroyed buffer may not be written; staging never may.
      expect(await device.device.popErrorScope()).not.toBeNull();
    }
  });

  it('takes the fastest whose numbers are right', async () => {
    const { chosen } = await withTimes({
      '32 of 64 lanes': 2,
      '32 of 64 lanes, subgroups of 4': null,
      '8 of 64 lanes': 1.2,
      '1 of 64 lanes': 1,
    });
    expect(chosen.title).toBe('1 of 64 lanes');
  });

  it('keeps to the usual one where another is hardly faster', async () => {
    const { chosen } = await withTimes({ '32 of 64 lanes': 1, '8 of 64 lanes': 0.97 });
    expect(chosen.title).toBe('32 of 64 lanes');
  });

  it('does without the usual one where only its numbers are wrong, and fails where all are', async () => {
    const { chosen } = await withTimes({ '32 of 64 lanes': null, '1 of 16 lanes': 9 });
    expect(chosen.title).toBe('1 of 16 lanes');
    await expect(withTimes({})).rejects.toThrow('every way of running matvec_q4 fails');
  });

  it('makes no bytes of activations unless that is allowed, also where it was faster once', async () => {
    const times = { '32 of 64 lanes': 5, '1 of 16 lanes, int8': 1, '1 of 16 lanes': 4 };
    const { store } = memory();
    const allowed = await withTimes(times, { store, allowInt8: true });
    expect(allowed.chosen.cut.int8).toBe(true);
    const plain = await withTimes(times, { store });
    expect(plain.chosen.title).toBe('1 of 16 lanes');
    expect(plainer(allowed.gpu)?.tuning.matvec).toEqual(plain.chosen.cut);
    expect(plainer(plain.gpu)).toBeNull();
    const device = { ...(await open()), language: new Set<string>() };
    const without = await withTimes(times, { allowInt8: true }, device);
    expect(without.chosen.cut.int8).toBe(false);
  });

  it('measures nothing on the next visit', async () => {
    const { store, set } = memory();
    const times = { '32 of 64 lanes': 5, '8 of 64 lanes': 4 };
    const first = await withTimes(times, { store });
    expect(first.calls).toBeGreaterThan(3);
    const second = await withTimes({}, { store });
    expect(second.calls).toBe(0);
    expect(second.chosen).toEqual(first.chosen);
    expect(set).toHaveBeenCalledTimes(1);
  });

  it('measures the usual one at least, and goes on with the rest on the next visits', async () => {
    const { store } = memory();
    const device = await open();
    const first = await calibrate(device, { shape, store, budgetMs: 0 });
    expect(first.chosen.title).toBe('32 of 64 lanes');
    expect(Object.keys(first.times)).toEqual(['32 of 64 lanes']);
    expect(first.left.length).toBeGreaterThan(3);
    const second = await calibrate(device, { shape, store, budgetMs: 1e6 });
    expect(second.left).toEqual([]);
    expect(second.times['32 of 64 lanes']).toBe(first.times['32 of 64 lanes']);
  });

  it('remembers by adapter, variant and shape', async () => {
    const { store, get } = memory();
    const device = await open();
    const fake: CalibrationOptions = { shape, store };
    await withTimes({ '32 of 64 lanes': 1 }, fake, device);
    await withTimes({ '32 of 64 lanes': 1 }, fake, { ...device, identity: 'another driver' });
    await withTimes({ '32 of 64 lanes': 1 }, { store, shape: { ...shape, rows: 74 } }, device);
    const keys = get.mock.calls.map(([key]) => key);
    expect(new Set(keys).size).toBe(3);
    expect(keys[0]).toContain(device.identity);
    expect(device.identity).toContain(device.device.adapterInfo.description);
    expect(device.identity).toContain('subgroups');
  });

  it('says that the GPU was lost', async () => {
    const device = await open();
    device.device.destroy();
    const lost = calibrate(device, { shape });
    await expect(lost).rejects.toMatchObject({ name: 'DeviceLost' });
  });

  it('that is stopped measures no further cut and keeps nothing', async () => {
    const { store, set } = memory();
    const stop = new AbortController();
    const spy = vi.spyOn(Trial.prototype, 'measure').mockImplementation(() => {
      stop.abort(new Error('stopped'));
      return Promise.resolve(1);
    });
    const calibrating = calibrate(await open(), { shape, store, signal: stop.signal });
    await expect(calibrating).rejects.toThrow('stopped');
    expect(spy).toHaveBeenCalledOnce();
    expect(set).not.toHaveBeenCalled();
    spy.mockRestore();
  });
});

describe('the store', () => {
  const measured: Measurements = { subgroup: 4, times: { a: 1.5, b: null } };

  it('gives back what was set last, by key', async () => {
    const { store } = memory();
    expect(await store.get('x')).toBeNull();
    await store.set('x', { subgroup: 1, times: { a: 9 } });
    await store.set('y', { subgroup: 1, times: {} });
    await store.set('x', measured);
    expect(await store.get('x')).toEqual(measured);
    expect(await store.get('y')).toEqual({ subgroup: 1, times: {} });
  });

  it('forgets the oldest of more than sixteen', async () => {
    const { store } = memory();
    for (let i = 0; i < 17; i++) await store.set(`key ${i}`, measured);
    expect(await store.get('key 0')).toBeNull();
    expect(await store.get('key 1')).toEqual(measured);
  });

  it.each([
    '',
    '{"x":',
    '[]',
    'null',
    '{"x":{"subgroup":0,"times":{}}}',
    '{"x":{"subgroup":1,"times":{"a":-1}}}',
    '{"x":{"subgroup":1,"times":[]}}',
    '{"x":7}',
  ])('takes %j for nothing', async (text) => {
    const store: CalibrationStore = new JsonCalibrations(
      () => Promise.resolve(text),
      () => Promise.resolve(),
    );
    expect(await store.get('x')).toBeNull();
  });

  it('tells what kept it from reading', async () => {
    const broken = () => Promise.reject(new Error('disk'));
    await expect(new JsonCalibrations(broken, broken).get('x')).rejects.toThrow('disk');
  });
});
