import { afterEach, describe, expect, it } from 'vitest';
import { driverChoices, findGpu, refusal, type DriverChoice } from './device.ts';

/** A machine as a set of paths. */
function machine(...paths: string[]) {
  const list = (folder: string): string[] =>
    paths
      .filter((path) => path.startsWith(`${folder}/`))
      .map((path) => path.slice(folder.length + 1));
  return [(path: string) => paths.includes(path), list] as const;
}

const lavapipe = '/usr/share/vulkan/icd.d/lvp_icd.x86_64.json';
const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';
const software: DriverChoice = { label: 'lavapipe', driverFiles: lavapipe, software: true };

describe.runIf(process.platform === 'linux')('the choice of a driver', () => {
  it('is the one in VK_DRIVER_FILES and no other', () => {
    const choices = driverChoices({ VK_DRIVER_FILES: '/x.json' }, ...machine(lavapipe));
    expect(choices).toEqual([{ label: 'driver /x.json', driverFiles: null, software: true }]);
  });

  it('tries a real GPU, then lavapipe, then SwiftShader', () => {
    const choices = driverChoices({}, ...machine(swiftShader, '/dev/dri/renderD128', lavapipe));
    expect(choices.map(({ driverFiles }) => driverFiles)).toEqual([null, lavapipe, swiftShader]);
    expect(choices.map((choice) => choice.software)).toEqual([false, true, true]);
  });

  it('knows an NVIDIA GPU without a render node', () => {
    expect(driverChoices({}, ...machine('/dev/nvidiactl'))).toHaveLength(1);
  });

  it('goes to software at once where there is no GPU', () => {
    const choices = driverChoices(
      {},
      ...machine(lavapipe, '/usr/share/vulkan/icd.d/intel_icd.json'),
    );
    expect(choices.map(({ driverFiles }) => driverFiles)).toEqual([lavapipe]);
  });

  it('is empty where nothing is installed', () => {
    expect(driverChoices({}, ...machine())).toEqual([]);
  });
});

describe('an adapter', () => {
  const mesa = (version: string) => ({
    description: `llvmpipe: Mesa ${version} (LLVM 15.0.6) 0.0.1`,
    isFallbackAdapter: true,
  });

  it('of Mesa 25 or newer will do, an older one is refused with a sentence', () => {
    expect(refusal(software, mesa('25.0.7-2~bpo12+1'))).toBeNull();
    expect(refusal(software, mesa('26.1.0'))).toBeNull();
    expect(refusal(software, mesa('24.3.1'))).toBe('Mesa 24 is too old, 25 or newer is needed');
    expect(refusal(software, mesa('22.3.6'))).toMatch(/Mesa 22 is too old/);
  });

  it('that is missing is explained for lavapipe', () => {
    expect(refusal(software, null)).toMatch(/Mesa older than 25 gives none/);
    expect(refusal({ ...software, driverFiles: swiftShader, label: 'SwiftShader' }, null)).toBe(
      'no WebGPU adapter',
    );
  });

  it('in software does not pass for a real GPU', () => {
    const real: DriverChoice = { label: 'the system GPU', driverFiles: null, software: false };
    expect(refusal(real, mesa('25.0.7'))).toBe('no real GPU answered');
    const card = { description: 'NVIDIA: 560.35', isFallbackAdapter: false };
    expect(refusal(real, card)).toBeNull();
  });
});

describe('this machine', () => {
  const before = process.env['VK_DRIVER_FILES'];
  afterEach(() => {
    if (before === undefined) delete process.env['VK_DRIVER_FILES'];
    else process.env['VK_DRIVER_FILES'] = before;
  });

  it('has a driver that gives an adapter', async () => {
    const found = await findGpu();
    expect(await found.gpu.requestAdapter()).not.toBeNull();
    expect(found.driver).not.toBe('');
    found.release();
  });

  it('has none behind a driver file that does not exist', async () => {
    process.env['VK_DRIVER_FILES'] = '/nowhere/icd.json';
    const failed = findGpu();
    await expect(failed).rejects.toMatchObject({ name: 'NoWebGpu' });
    await expect(failed).rejects.toThrow(/nowhere.*no WebGPU adapter.*install/);
  });
});
