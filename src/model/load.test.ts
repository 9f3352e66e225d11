import { describe, expect, it, vi } from 'vitest';
import { tensorByName } from '../format/layout.ts';
import { gpuTuning, softwareTuning } from '../gpu/tuning.ts';
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
const sampling = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  seed: 1,
};

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

  it.each(['adapter.layers.0.gate_proj.a', 'adapter.layers.1.down_proj.b'])(
    'names the tensor of an adapter that holds an infinity, %s',
    async (name) => {
      const block = tensorByName(merged.manifest).get(name)?.blocks.at(-1);
      if (block === undefined) throw new Error(`no tensor ${name}`);
      const read = async (file: string): Promise<Uint8Array> => {
        const bytes = new Uint8Array(await merged.read(file));
        if (file === block.file) bytes.set([0, 0xfc], block.offset); // the half of -infinity
        return bytes;
      };
      for (const tuning of [softwareTuning, gpuTuning]) {
        const device = await openDevice({ variant: 'f32', tuning });
        const loading = Model.load(device, merged.manifest, read);
        await expect(loading).rejects.toMatchObject({
          name: 'BadPackage',
          message: expect.stringContaining(name) as string,
        });
      }
    },
  );

  it('says that a cache beyond the default limits does not fit', async () => {
    const device = await openDevice({ variant: 'f32', tuning: softwareTuning });
    const huge = testPackage({ config: { capacity: 2 ** 20 } });
    const loading = Model.load(device, huge.manifest, (file) => huge.read(file));
    await expect(loading).rejects.toMatchObject({ name: 'DeviceLimit' });
  });
});

it('tells before any file is read that the GPU has no memory for the buffers', async () => {
  const { device, ...gpu } = await openDevice({ variant: 'f32', tuning: softwareTuning });
  const message = 'out of memory';
  // The first scope that ends is that of the buffers: no kernel is compiled yet.
  vi.spyOn(device, 'popErrorScope').mockResolvedValueOnce({ message });
  const read = vi.fn((file: string) => merged.read(file));
  await expect(Model.load({ ...gpu, device }, merged.manifest, read)).rejects.toMatchObject({
    name: 'DeviceLimit',
    message: expect.stringContaining(message) as string,
  });
  expect(read).not.toHaveBeenCalled();
});

describe('kernels', () => {
  const tuning = { ...gpuTuning, chunk: 8, matmulFrom: 6, attentionSlices: 4 };
  const routed = testPackage({ mode: 'routed' });
  const compiling = ['createShaderModule', 'createComputePipeline', 'createComputePipelineAsync'] as const; // prettier-ignore
  const [last] = routed.manifest.files.filter(({ name }) => name !== 'tokenizer.json').slice(-1);

  it('are all asked for before the last file has come, and no other ever is', async () => {
    // How many there are, by a load in which nothing waits.
    const counted = await openDevice({ variant: 'f32', tuning });
    const count = vi.spyOn(counted.device, 'createComputePipelineAsync');
    (await Model.load(counted, routed.manifest, (file) => routed.read(file))).dispose();
    expect(count.mock.calls.length).toBeGreaterThan(10);

    const device = await openDevice({ variant: 'f32', tuning });
    const pipelines = vi.spyOn(device.device, 'createComputePipelineAsync');
    const read = async (file: string): Promise<Uint8Array> => {
      // The last file comes only once the kernels are there.
      const enough = (): void => expect(pipelines.mock.calls.length).toBe(count.mock.calls.length);
      if (file === last?.name) await vi.waitFor(enough, { timeout: 60_000 });
      return routed.read(file);
    };
    const model = await Model.load(device, routed.manifest, read);
    const spies = compiling.map((name) => vi.spyOn(device.device, name).mockClear());
    await model.prefill(tokens); // chunks of 8 and of 3
    await model.decode(1);
    model.setRouted(false);
    await model.prefill(tokens);
    const run = model.run(sampling, [], 4);
    for (let i = 0; i < 4; i++) await run.next();
    await run.end();
    expect(spies.map((spy) => spy.mock.calls.length)).toEqual([0, 0, 0]);
    model.dispose();
  });

  it('that do not compile end the load, and no further file is read', async () => {
    const device = await openDevice({ variant: 'f32', tuning: softwareTuning });
    const refuse = vi.spyOn(device.device, 'createComputePipelineAsync');
    refuse.mockRejectedValue(new Error('this driver cannot'));
    const names: string[] = [];
    const read = async (file: string): Promise<Uint8Array> => {
      names.push(file);
      await vi.waitFor(() => expect(refuse).toHaveBeenCalled(), { timeout: 60_000 });
      await new Promise((resolve) => setTimeout(resolve, 50));
      return merged.read(file);
    };
    const loading = Model.load(device, merged.manifest, read);
    await expect(loading).rejects.toThrow(/\.wgsl with .*this driver cannot/);
    expect(names).toEqual([merged.manifest.files[0]?.name]);
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
