import { readFile } from 'node:fs/promises';
import { describe, expect, it, vi } from 'vitest';
import { parseManifest } from '../format/layout.ts';
import type { PackageSource } from '../format/source.ts';
import { hasEightBits, plainer, requestGpu } from '../gpu/device.ts';
import { testDriver } from '../gpu/testing.ts';
import { softwareTuning } from '../gpu/tuning.ts';
import { Engine } from './engine.ts';

/** Numbers rounded to 8 bits: taken where the known answer still comes, else left. */

vi.setConfig({ testTimeout: 240_000 });

const folder = new URL('../../e2e/fixtures/tiny/', import.meta.url);
const source: PackageSource = { read: (file) => readFile(new URL(file, folder)) };

/** The package with other tolerances of its known answer. */
function withTolerance(tolerance: { f32: number; f16: number }): PackageSource {
  return {
    read: async (file) => {
      const bytes = await source.read(file);
      if (file !== 'manifest.json') return bytes;
      const manifest = JSON.parse(new TextDecoder().decode(bytes)) as {
        knownAnswer: { tolerance: unknown };
      };
      manifest.knownAnswer.tolerance = tolerance;
      return new TextEncoder().encode(JSON.stringify(manifest));
    },
  };
}

const recorded = parseManifest(await source.read('manifest.json')).knownAnswer?.tolerance;

describe('8 bits', () => {
  /** The tolerance that the engine was held to at last: f16's tells that the 8 bits were kept. */
  const heldTo = async (what: 'cache' | 'activations', from: PackageSource) => {
    const matvec = { ...softwareTuning.matvec, int8: what === 'activations' };
    const tuning = { ...softwareTuning, matvec };
    const cache = what === 'cache' ? 'int8' : 'elem';
    const gpu = await requestGpu(testDriver('f32'), { variant: 'f32', tuning, cache });
    const engine = await Engine.open(from, gpu);
    const { selfTest } = engine.info;
    engine.dispose();
    return selfTest?.tolerance;
  };

  it('of the cache pass the known-answer test with what f16 may lose', async () => {
    expect(await heldTo('cache', source)).toBe(recorded?.f16);
  });

  it('of activations are kept where the known answer comes', async () => {
    const wide = withTolerance({ f32: recorded?.f32 ?? 0, f16: 1 });
    expect(await heldTo('activations', wide)).toBe(1);
  });

  it.each(['cache', 'activations'] as const)(
    'of the %s are left where it does not',
    async (what) => {
      const strict = withTolerance({ f32: recorded?.f32 ?? 0, f16: 1e-9 });
      expect(await heldTo(what, strict)).toBe(recorded?.f32);
    },
  );
});

it('the next more exact numbers are those without 8 bits, then f32, then none', async () => {
  const gpu = await requestGpu(testDriver('f32'), { variant: 'f32', cache: 'int8' });
  const f16 = { ...gpu, variant: 'f16' } as const;
  const next = plainer(f16);
  expect(next).toMatchObject({ variant: 'f16', cache: 'elem' });
  expect(next !== null && hasEightBits(next)).toBe(false);
  const last = next === null ? null : plainer(next);
  expect(last?.variant).toBe('f32');
  expect(last === null ? undefined : plainer(last)).toBeNull();
});
