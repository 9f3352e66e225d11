import { describe, expect, it, vi } from 'vitest';
import { softwareTuning } from '../gpu/tuning.ts';
import { Model } from './model.ts';
import { referenceForward } from './reference.ts';
import {
  difference,
  openDevice,
  openModel,
  testPackage,
  testTokens as tokens,
  tolerance,
} from './testing.ts';

// Software drivers compile kernels for seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const merged = testPackage();

describe('weights in row blocks', () => {
  const shared = { config: { kvHeads: 2 } };
  const blocked = testPackage({ ...shared, blockRows: 21 });
  const expected = referenceForward(blocked, tokens, { task: 'medkqa' }).logits.at(-1) ?? [];

  it('are cut without changing a value', () => {
    const whole = testPackage(shared);
    for (const [name, values] of whole.values) expect(blocked.values.get(name)).toEqual(values);
    expect(blocked.manifest.tensors.find(({ name }) => name === 'head')?.blocks.length).toBe(4);
  });

  it.each([
    ['share a buffer where it may be large', softwareTuning.weightBytes],
    ['have buffers of their own where it may not', 2048],
  ])('%s', async (_, weightBytes) => {
    const tuning = { ...softwareTuning, weightBytes };
    const device = await openDevice({ variant: 'f32', tuning });
    const create = vi.spyOn(device.device, 'createBuffer');
    const model = await Model.load(device, blocked.manifest, (file) => blocked.read(file));
    const heads = create.mock.calls.filter(([{ label }]) => label === 'head');
    expect(heads.length).toBe(weightBytes === 2048 ? 4 : 1);
    expect(difference(await model.prefill(tokens), expected)).toBeLessThan(tolerance.f32);
    model.dispose();
  });
});

describe('loading', () => {
  it('reads every shard once and counts its bytes', async () => {
    const device = await openDevice({ variant: 'f32', tuning: softwareTuning });
    const names: string[] = [];
    const progress: number[] = [];
    let total = 0;
    const read = (file: string): Promise<Uint8Array> => {
      names.push(file);
      return merged.read(file);
    };
    const model = await Model.load(device, merged.manifest, read, (p) => {
      progress.push(p.bytesDone);
      total = p.bytesTotal;
    });
    const shards = merged.manifest.files.filter(({ name }) => name !== 'tokenizer.json');
    expect(names).toEqual(shards.map(({ name }) => name));
    expect(total).toBe(shards.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(progress).toEqual([0, shards[0]?.bytes, total]);
    model.dispose();
  });

  it('destroys what it made when a file cannot be read', async () => {
    const device = await openDevice({ variant: 'f32', tuning: softwareTuning });
    const create = vi.spyOn(device.device, 'createBuffer');
    const read = (): Promise<Uint8Array> => Promise.reject(new Error('gone'));
    await expect(Model.load(device, merged.manifest, read)).rejects.toThrow('gone');
    const buffers = create.mock.results.map(({ value }) => value as GPUBuffer);
    expect(buffers.length).toBeGreaterThan(10);
    expect(buffers.every(({ mapState }) => mapState === 'unmapped')).toBe(true);
  });

  it('refuses a file of another size', async () => {
    const device = await openDevice({ variant: 'f32', tuning: softwareTuning });
    const read = (): Promise<Uint8Array> => Promise.resolve(new Uint8Array(8));
    const loading = Model.load(device, merged.manifest, read);
    await expect(loading).rejects.toMatchObject({ name: 'BadPackage' });
  });

  it('says that a cache beyond the default limits does not fit', async () => {
    const device = await openDevice({ variant: 'f32', tuning: softwareTuning });
    const huge = testPackage({ config: { capacity: 2 ** 20 } });
    const loading = Model.load(device, huge.manifest, (file) => huge.read(file));
    await expect(loading).rejects.toMatchObject({ name: 'DeviceLimit' });
  });
});

describe('a call that overlaps another', () => {
  it('is refused, and the first one is not disturbed', async () => {
    const model = await openModel(merged);
    const first = model.prefill(tokens);
    await expect(model.decode(1)).rejects.toMatchObject({ name: 'Busy' });
    await expect(model.forwardAll([1])).rejects.toMatchObject({ name: 'Busy' });
    const busy: unknown = expect.objectContaining({ name: 'Busy' });
    expect(() => model.truncate(0)).toThrow(busy);
    expect(() => model.setTask('evidiag')).toThrow(busy);
    expect(() => model.setRouted(false)).toThrow(busy);
    const { logits } = referenceForward(merged, tokens, { task: 'medkqa' });
    expect(difference(await first, logits.at(-1) ?? [])).toBeLessThan(tolerance.f32);
    model.dispose();
  });
});

describe('a lost device', () => {
  it('fails the step that waits for it, and says why', async () => {
    const device = await openDevice({ variant: 'f32', tuning: softwareTuning });
    const model = await Model.load(device, merged.manifest, (file) => merged.read(file));
    await model.prefill(tokens);
    device.device.destroy();
    await expect(model.decode(1)).rejects.toMatchObject({ name: 'DeviceLost' });
    expect(await device.lost).toContain('destroyed');
  });
});
