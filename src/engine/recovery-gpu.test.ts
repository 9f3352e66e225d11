import { readFile } from 'node:fs/promises';
import { describe, expect, it, vi } from 'vitest';
import type { PackageSource } from '../format/source.ts';
import { requestGpu, type GpuDevice } from '../gpu/device.ts';
import { gpuCases, testDriver } from '../gpu/testing.ts';
import { carefulTuning } from '../gpu/tuning.ts';
import type { GenerateEvent } from '../worker/api.ts';
import { Engine, type EngineRequest } from './engine.ts';

/** The same on a real device: it is destroyed in the middle of an answer, or computes in f16. */

vi.setConfig({ testTimeout: 240_000 });

const folder = new URL('../../e2e/fixtures/tiny/', import.meta.url);
const source: PackageSource = { read: (name) => readFile(new URL(name, folder)) };
const request: EngineRequest = {
  task: 'evidiag',
  turns: [{ role: 'user', text: '宝宝发烧两天，还咳嗽。' }],
  sampling: { temperature: 0.8, topK: 20, topP: 0.9, repetitionPenalty: 1.1, maxTokens: 12 },
  seed: 5,
};
const device = (): Promise<GpuDevice> => requestGpu(testDriver('f32'), { variant: 'f32' });

describe('a device that is lost during an answer', () => {
  it('is replaced once, and the answer is what it would have been', async () => {
    const calm = await Engine.open(source, await device());
    const expected = await calm.generate(request, () => undefined);
    calm.dispose();
    expect(expected.tokens.length).toBeGreaterThan(4);

    const devices = [await device()];
    const renewGpu = async (): Promise<GpuDevice> => {
      const next = await device();
      devices.push(next);
      return next;
    };
    const engine = await Engine.open(source, devices[0] ?? (await device()), { renewGpu });
    const destroyAt = (piece: number) => {
      let pieces = 0;
      return (event: GenerateEvent): void => {
        if (event.kind === 'piece' && ++pieces === piece) devices.at(-1)?.device.destroy();
      };
    };
    const result = await engine.generate(request, destroyAt(3));
    expect(result).toMatchObject({ tokens: expected.tokens, text: expected.text });
    expect(result.recoveries).toEqual(['DeviceLost']);
    expect(devices).toHaveLength(2);
    const again = await engine.generate(request, () => undefined);
    expect(again).toMatchObject({ tokens: expected.tokens, recoveries: [] });
    await expect(engine.generate(request, destroyAt(2))).rejects.toMatchObject({
      name: 'DeviceLost',
    });
    engine.dispose();
  });
});

/** The package with another tolerance of its known answer for f16, which is that of 8 bits too. */
async function withTolerance(f16: number): Promise<PackageSource> {
  const manifest = JSON.parse((await source.read('manifest.json')).toString()) as {
    knownAnswer: { tolerance: Record<string, number> };
  };
  manifest.knownAnswer.tolerance['f16'] = f16;
  const bytes = new TextEncoder().encode(JSON.stringify(manifest));
  return {
    read: (name) => (name === 'manifest.json' ? Promise.resolve(bytes) : source.read(name)),
  };
}

describe('the careful way', () => {
  const careful = { variant: 'f32', cache: 'int8', tuning: carefulTuning } as const;

  it('passes the known answer with its cache in 8 bits, and answers', async () => {
    const engine = await Engine.open(source, await requestGpu(testDriver('f32'), careful));
    expect(engine.info.fellBack).toEqual([]);
    // f16's, which 8 bits are held to.
    expect(engine.info.selfTest?.tolerance).toBeGreaterThan(0.05);
    const sampling = { ...request.sampling, temperature: 0 };
    const { text } = await engine.generate({ ...request, sampling }, () => undefined);
    engine.dispose();
    const usual = await Engine.open(source, await device());
    expect(text).toBe((await usual.generate({ ...request, sampling }, () => undefined)).text);
    usual.dispose();
  });

  it('leaves the 8 bits where the known answer does not come, and says so', async () => {
    const strict = await withTolerance(1e-9);
    const engine = await Engine.open(strict, await requestGpu(testDriver('f32'), careful));
    expect(engine.info).toMatchObject({
      variant: 'f32',
      fellBack: [{ from: 'WebGPU f32 int8', because: 'WrongNumbers' }],
    });
    expect(engine.info.selfTest?.tolerance).toBeLessThan(0.05);
    engine.dispose();
  });
});

const f16 = gpuCases.find(({ variant }) => variant === 'f16');
describe.runIf(f16)('a GPU whose f16 numbers are not those of the record', () => {
  it('goes on in f32, and says so', async () => {
    const strict = await withTolerance(1e-12);
    const gpu = await requestGpu(testDriver('f16'), { variant: 'f16' });
    const engine = await Engine.open(strict, gpu);
    expect(engine.info.variant).toBe('f32');
    expect(engine.info.fellBack).toEqual([{ from: 'WebGPU f16', because: 'WrongNumbers' }]);
    expect(engine.info.selfTest?.tolerance).toBeGreaterThan(1e-6);
    const { tokens } = await engine.generate(request, () => undefined);
    engine.dispose();
    const plain = await Engine.open(source, await device());
    expect((await plain.generate(request, () => undefined)).tokens).toEqual(tokens);
    plain.dispose();
  });
});
