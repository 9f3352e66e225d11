import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { plant, plantedBugs } from './planted-bugs.ts';
import { preludeOf } from './prelude.ts';
import { openNullGpu } from './testing.ts';
import { gpuTuning } from './tuning.ts';

const shaderOf = (kernel: string): string =>
  readFileSync(new URL(`../../shaders/${kernel}.wgsl`, import.meta.url), 'utf8');

describe('a planted bug', async () => {
  const gpu = await openNullGpu({ variant: 'f32', tuning: gpuTuning });
  const types = { input: 'f32', output: 'f32', subgroups: false, dot8: false } as const;
  const prelude = preludeOf(gpu, { ...types, cache: 'elem' });

  /** What the compiler says of a shader. */
  async function complaints(wgsl: string): Promise<string[]> {
    gpu.device.pushErrorScope('validation');
    const module = gpu.device.createShaderModule({ code: prelude + wgsl });
    const [, { messages }] = await Promise.all([
      gpu.device.popErrorScope(),
      module.getCompilationInfo(),
    ]);
    return messages.filter(({ type }) => type === 'error').map(({ message }) => message);
  }

  it.each(plantedBugs)('in $kernel, $what, has its place and compiles', async (bug) => {
    const wgsl = shaderOf(bug.kernel);
    const planted = plant(bug, wgsl);
    expect(planted).not.toBe(wgsl);
    expect(await complaints(planted)).toEqual([]);
  });

  it('that does not compile would be told', async () => {
    expect(await complaints(shaderOf('swiglu').replace('fn main', 'fn main('))).not.toEqual([]);
  });
});

it('refuses a bug without a place, or with several', () => {
  const bug = { kernel: 'x', what: 'y', find: 'a', replace: 'b' };
  expect(plant(bug, 'a')).toBe('b');
  expect(() => plant(bug, 'b')).toThrow(/0 places/);
  expect(() => plant(bug, 'aa')).toThrow(/2 places/);
});
