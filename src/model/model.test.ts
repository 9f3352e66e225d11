import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { gpuCases } from '../gpu/testing.ts';
import { gpuTuning, softwareTuning } from '../gpu/tuning.ts';
import { Model } from './model.ts';
import { referenceForward } from './reference.ts';
import {
  difference,
  openDevice,
  openModel,
  testPackage,
  testTokens as tokens,
  tinyConfig,
  tolerance,
} from './testing.ts';

// Software drivers compile the kernels of a GPU for seconds, and longer on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

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
    model = await openModel(merged, { ...gpuTuning, chunk: 5, matmulFrom: 5 });
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
    const model = await openModel(merged);
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
    const model = await openModel(plain);
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
    const model = await openModel(routed, tuning);
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
    const model = await openModel(routed);
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
    const model = await openModel(merged);
    expect(() => model.setRouted(true)).toThrow(expect.objectContaining({ name: 'NotRouted' }));
    model.setRouted(false);
    model.dispose();
  });
});
