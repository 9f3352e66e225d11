import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { requestGpu, type GpuDevice } from '../gpu/device.ts';
import { gpuCases, testDriver, type GpuCase } from '../gpu/testing.ts';
import { gpuTuning, softwareTuning, type Tuning } from '../gpu/tuning.ts';
import { Model } from './model.ts';
import { referenceForward } from './reference.ts';
import { testPackage, tinyConfig, type TestPackage } from './testing.ts';

// Software drivers compile the kernels of a GPU for seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

/**
 * What f32 sums may lose over two layers, and what storing activations in f16 costs on top, as a
 * part of the largest value of a row.
 */
const tolerance = { f32: 2e-5, f16: 1e-2 };

const tokens = Array.from({ length: 19 }, (_, i) => (i * 37 + 5) % tinyConfig.vocab);

function openDevice({ variant, tuning }: Pick<GpuCase, 'variant' | 'tuning'>): Promise<GpuDevice> {
  return requestGpu(testDriver(variant), { variant, tuning });
}

async function open(pkg: TestPackage, tuning: Tuning = softwareTuning): Promise<Model> {
  const device = await openDevice({ variant: 'f32', tuning });
  return Model.load(device, pkg.manifest, (file) => pkg.read(file));
}

/** The largest difference as a part of the largest expected value. */
function difference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let [worst, largest] = [0, 1e-30];
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs((actual[i] ?? NaN) - (expected[i] ?? NaN));
    if (!(error <= worst)) worst = error;
    largest = Math.max(largest, Math.abs(expected[i] ?? 0));
  }
  return worst / largest;
}

function row(values: Float32Array, t: number): Float32Array {
  return values.subarray(t * tinyConfig.vocab, (t + 1) * tinyConfig.vocab);
}

const merged = testPackage();

describe.each(gpuCases)('a merged model in $title', ({ variant, tuning }) => {
  it('agrees with plain loops after every layer and at every logit', async () => {
    const device = await openDevice({ variant, tuning: { ...tuning, chunk: 16 } });
    const model = await Model.load(device, merged.manifest, (file) => merged.read(file));
    model.setTask('evidiag');
    const { logits, hidden, gates } = await model.trace(tokens);
    const reference = referenceForward(merged, tokens, { task: 'evidiag' });
    reference.logits.forEach((expected, t) => {
      expect(difference(row(logits, t), expected)).toBeLessThan(tolerance[variant]);
    });
    expect(hidden.length).toBe(tinyConfig.layers + 1);
    hidden.forEach((actual, layer) => {
      const expected = reference.hidden[layer]?.flatMap((x) => [...x]) ?? [];
      expect(difference(actual, expected)).toBeLessThan(tolerance[variant]);
    });
    expect(gates.size).toBe(0);
    model.dispose();
  });
});

describe('the KV cache', () => {
  let model: Model;
  const { logits } = referenceForward(merged, tokens, { task: 'medkqa' });
  const close = (actual: Float32Array, t: number): void => {
    expect(difference(actual, logits[t] ?? [])).toBeLessThan(tolerance.f32);
  };
  // Chunks of 5 over 19 tokens: matmul for the full ones, matvec for the last.
  beforeAll(async () => {
    model = await open(merged, { ...gpuTuning, chunk: 5, matmulFrom: 5 });
  });
  afterAll(() => model.dispose());

  it('is filled alike by chunks and by single steps', async () => {
    const progress: number[][] = [];
    model.truncate(0);
    const onProgress = (done: number, total: number): number => progress.push([done, total]);
    close(await model.prefill(tokens, { onProgress }), 18);
    expect(model.position).toBe(19);
    expect(progress).toEqual([5, 10, 15, 19].map((done) => [done, 19]));
    model.truncate(0);
    for (const [t, token] of tokens.entries()) close(await model.decode(token), t);
    expect(model.position).toBe(19);
  });

  it('goes on from where it was truncated', async () => {
    model.truncate(0);
    await model.prefill([...tokens.slice(0, 7), 1, 2, 3, 4]);
    model.truncate(7);
    close(await model.prefill(tokens.slice(7, 13)), 12);
    close(await model.decode(tokens[13] ?? 0), 13);
    expect(() => model.truncate(15)).toThrow(RangeError);
  });

  it('holds as many tokens as the config says and refuses one more', async () => {
    model.truncate(0);
    const many = Array.from({ length: tinyConfig.capacity }, () => 7);
    await expect(model.prefill([...many, 7])).rejects.toMatchObject({ name: 'PromptTooLong' });
    expect(model.position).toBe(0);
    await model.prefill(many);
    await expect(model.decode(7)).rejects.toMatchObject({ name: 'PromptTooLong' });
    expect(model.position).toBe(tinyConfig.capacity);
  });

  it('stays usable when a prefill is cancelled between chunks', async () => {
    model.truncate(0);
    const stop = new AbortController();
    const onProgress = (done: number): void => {
      if (done >= 10) stop.abort();
    };
    const prefill = model.prefill(tokens, { signal: stop.signal, onProgress });
    await expect(prefill).rejects.toMatchObject({ name: 'Cancelled' });
    expect(model.position).toBe(10);
    close(await model.prefill(tokens.slice(10)), 18);
  });

  it('refuses tokens that the vocabulary does not have', async () => {
    for (const bad of [[], [-1], [1.5], [tinyConfig.vocab]]) {
      await expect(model.prefill(bad)).rejects.toThrow(RangeError);
    }
  });

  it('is emptied by forwardAll, which gives the logits of every position', async () => {
    const { logits: all } = await model.forwardAll(tokens);
    tokens.forEach((_, t) => close(row(all, t), t));
    expect(model.position).toBe(0);
  });
});

describe('a decode step', () => {
  it('creates no buffer, bind group, pipeline or shader', async () => {
    const device = await openDevice({ variant: 'f32', tuning: softwareTuning });
    const model = await Model.load(device, merged.manifest, (file) => merged.read(file));
    const first = await model.prefill(tokens);
    const names = [
      'createBuffer',
      'createBindGroup',
      'createBindGroupLayout',
      'createPipelineLayout',
      'createComputePipeline',
      'createComputePipelineAsync',
      'createShaderModule',
      'createQuerySet',
    ] as const;
    const spies = names.map((name) => vi.spyOn(device.device, name));
    const second = await model.decode(3);
    expect(spies.map((spy) => spy.mock.calls.length)).toEqual(names.map(() => 0));
    expect(second).toBe(first); // the array of logits is reused too
    model.dispose();
  });
});

describe('a task', () => {
  it('has its own logits without loading anything', async () => {
    const model = await open(merged);
    const results = [];
    for (const task of ['medkqa', 'evidiag', 'trerecom', 'medkqa']) {
      expect(model.setTask(task)).toBeLessThan(50);
      expect(model.position).toBe(0);
      const actual = Array.from(await model.prefill(tokens));
      const expected = referenceForward(merged, tokens, { task }).logits.at(-1) ?? [];
      expect(difference(actual, expected)).toBeLessThan(tolerance.f32);
      results.push(actual);
    }
    expect(results[3]).toEqual(results[0]);
    for (const other of [results[1], results[2]]) {
      expect(difference(other ?? [], results[0] ?? [])).toBeGreaterThan(100 * tolerance.f32);
    }
    expect(() => model.setTask('surgery')).toThrow(
      expect.objectContaining({ name: 'UnknownTask' }),
    );
    model.dispose();
  });

  it('changes nothing in a package without an adapter', async () => {
    const plain = testPackage({ mode: 'none' });
    const model = await open(plain);
    const expected = referenceForward(plain, tokens, 'none').logits.at(-1) ?? [];
    for (const task of ['medkqa', 'evidiag']) {
      model.setTask(task);
      expect(difference(await model.prefill(tokens), expected)).toBeLessThan(tolerance.f32);
    }
    model.dispose();
  });
});

describe('a routed package', () => {
  const targets = ['W_pack', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
  const routed = testPackage({ mode: 'routed', targets });

  it.each([
    ['software', { ...softwareTuning, chunk: 8 }],
    ['a GPU', { ...gpuTuning, chunk: 8, matmulFrom: Infinity }],
  ])('routes every token of every linear, cut for %s', async (_, tuning) => {
    const model = await open(routed, tuning);
    const { logits, gates } = await model.trace(tokens);
    const reference = referenceForward(routed, tokens, 'routed');
    reference.logits.forEach((expected, t) => {
      expect(difference(row(logits, t), expected)).toBeLessThan(tolerance.f32);
    });
    expect([...gates.keys()].sort()).toEqual([...reference.gates.keys()].sort());
    for (const [linear, rows] of reference.gates) {
      expect(difference(gates.get(linear) ?? [], rows.flat())).toBeLessThan(tolerance.f32);
    }
    model.dispose();
  });

  it('can be held to the gates of a task instead', async () => {
    const model = await open(routed);
    const routedLogits = Array.from(await model.prefill(tokens));
    model.setRouted(false);
    expect(model.position).toBe(0);
    model.setTask('trerecom');
    const actual = await model.prefill(tokens);
    const expected = referenceForward(routed, tokens, { task: 'trerecom' }).logits.at(-1) ?? [];
    expect(difference(actual, expected)).toBeLessThan(tolerance.f32);
    model.setRouted(true);
    expect(Array.from(await model.prefill(tokens))).toEqual(routedLogits);
    model.dispose();
  });

  it('is what routed mode asks for', async () => {
    const model = await open(merged);
    expect(() => model.setRouted(true)).toThrow(expect.objectContaining({ name: 'NotRouted' }));
    model.setRouted(false);
    model.dispose();
  });
});

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
