import { describe, expect, it } from 'vitest';
import type { Described } from '../onnx/limits.ts';
import { tinyConfig } from '../model/testing.ts';
import { chooseBackend } from './choice.ts';

const small: Described = {
  id: 'small',
  config: tinyConfig,
  tensors: [{ dtype: 'q4', shape: [64, 64] }],
};
/** 7.5 thousand million weights. */
const large: Described = {
  ...small,
  id: 'large',
  tensors: Array.from({ length: 28 }, () => ({ dtype: 'q4', shape: [3 * 11008, 8192] })),
};
const gpu = { software: false };
const software = { software: true };

describe('what computes', () => {
  it.each([
    ['a GPU, with the CPU behind it', gpu, 'wgsl', true],
    ['the CPU where the adapter is software', software, 'onnx', false],
    ['the CPU where there is no adapter', null, 'onnx', false],
  ] as const)('is by itself %s', (_, adapter, first, cpuCanFollow) => {
    expect(chooseBackend('auto', adapter, small)).toEqual({ first, cpuCanFollow });
  });

  it.each([gpu, software, null])('is what the person wishes, on %o', (adapter) => {
    const [webgpu, cpu] = (['webgpu', 'cpu'] as const).map((asked) =>
      chooseBackend(asked, adapter, small),
    );
    expect(webgpu).toEqual({ first: 'wgsl', cpuCanFollow: false });
    expect(cpu).toEqual({ first: 'onnx', cpuCanFollow: false });
  });
});

describe('a package that the CPU cannot run', () => {
  it.each([gpu, software])('goes to the adapter that there is, %o', (adapter) => {
    expect(chooseBackend('auto', adapter, large)).toEqual({ first: 'wgsl', cpuCanFollow: false });
  });

  it.each([
    ['auto', null],
    ['cpu', gpu],
    ['cpu', null],
  ] as const)('is refused with the reason: %s, %o', (asked, adapter) => {
    const refused = () => chooseBackend(asked, adapter, large);
    expect(refused).toThrow(expect.objectContaining({ name: 'CpuLimit' }));
    expect(refused).toThrow(
      /large: its weights need 4\.\d\d GiB .* 32-bit WebAssembly has 4\.00 GiB/,
    );
  });

  it('may also be one of a shape that it does not know', () => {
    const narrow = { ...small, config: { ...tinyConfig, headDim: 24 } };
    expect(() => chooseBackend('cpu', gpu, narrow)).toThrow(/headDim 24/);
    expect(chooseBackend('auto', gpu, narrow)).toEqual({ first: 'wgsl', cpuCanFollow: false });
  });
});
