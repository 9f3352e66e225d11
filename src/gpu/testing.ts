import { existsSync } from 'node:fs';
import process from 'node:process';
import { create, globals } from 'webgpu';
import { floatToHalf, halfToFloat } from '../format/dtype.ts';
import { packFactor } from './factors.ts';
import { requestGpu, type GpuOptions, type Variant } from './device.ts';
import { Gpu, type Step } from './gpu.ts';
import { gpuTuning, softwareTuning, type Tuning } from './tuning.ts';

/** What tests of kernels and of the model share: a device in Node, data, buffers, comparison. */

Object.assign(globalThis, globals);

const noAdapter = `No WebGPU adapter in Node. These tests need a Vulkan driver, a software one will do:
run .ci/setup.sh vulkan, or install mesa-vulkan-drivers (25 or newer) or chromium and set
VK_DRIVER_FILES to its file, for example /usr/share/vulkan/icd.d/lvp_icd.json or
/usr/lib/chromium/vk_swiftshader_icd.json.`;

/**
 * Chromium's SwiftShader joins the driver that was given: it compiles a kernel in milliseconds
 * where lavapipe takes a second. TEST_ADAPTER=NVIDIA (a part of the name) keeps to one adapter.
 */
function findDrivers(): readonly GPU[] {
  const swiftshader = '/usr/lib/chromium/vk_swiftshader_icd.json';
  const { env } = process;
  const given = env['VK_DRIVER_FILES'];
  if (existsSync(swiftshader)) {
    if (given === undefined) env['VK_ADD_DRIVER_FILES'] = swiftshader;
    else if (!given.includes(swiftshader)) env['VK_DRIVER_FILES'] = `${given}:${swiftshader}`;
  }
  env['GALLIVM_PERF'] ??= 'nopt'; // lavapipe compiles in half the time, and tests compute little
  env['XDG_RUNTIME_DIR'] ??= '/tmp'; // the Vulkan loader complains where it is missing
  const named = env['TEST_ADAPTER'];
  if (named !== undefined) return [create([`adapter=${named}`])];
  return [create(['adapter=SwiftShader']), create([]), create(['adapter=llvmpipe'])];
}

/** Must outlive every device made from them: a collected instance ends the process. */
const drivers = findDrivers();
/** Compiles and validates like a GPU with every feature, and computes nothing. */
const nullDriver = create(['backend=null']);

/** One way of running kernels: what is stored, and how work is cut. */
export interface GpuCase {
  readonly title: string;
  readonly variant: Variant;
  readonly tuning: Tuning;
}

/** The quickest driver that can compute in this variant, if there is one. */
async function driverFor(variant: Variant): Promise<GPU | undefined> {
  for (const driver of drivers) {
    // Dawn throws where no adapter has the name asked for.
    const adapter = await driver.requestAdapter().catch(() => null);
    if (adapter !== null && (variant === 'f32' || adapter.features.has('shader-f16')))
      return driver;
  }
  return undefined;
}

const driverOf = { f32: await driverFor('f32'), f16: await driverFor('f16') };

/** f32 cut as for software and as for a GPU, and f16 as a GPU would run it where a driver has it. */
export const gpuCases: readonly GpuCase[] = findCases();

function findCases(): GpuCase[] {
  if (driverOf.f32 === undefined) throw new Error(noAdapter);
  const cases: GpuCase[] = [
    { title: 'f32, cut for software', variant: 'f32', tuning: softwareTuning },
    { title: 'f32, cut for a GPU', variant: 'f32', tuning: gpuTuning },
  ];
  if (driverOf.f16 === undefined) return cases;
  return [...cases, { title: 'f16, cut for a GPU', variant: 'f16', tuning: gpuTuning }];
}

/** The entry point of WebGPU that a variant is tested on. */
export function testDriver(variant: Variant): GPU {
  const driver = driverOf[variant];
  if (driver === undefined) throw new Error(noAdapter);
  return driver;
}

/** A device of its own. */
export async function openTestGpu({ variant, tuning }: GpuCase): Promise<Gpu> {
  return new Gpu(await requestGpu(testDriver(variant), { variant, tuning }));
}

/** A device that only compiles. */
export async function openNullGpu(options: GpuOptions): Promise<Gpu> {
  return new Gpu(await requestGpu(nullDriver, options));
}

/** Numbers that look random and are the same in every run: [-1, 1), every 29th fifty times larger. */
export function testNumbers(count: number, seed: number): Float32Array<ArrayBuffer> {
  const numbers = new Float32Array(count);
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    numbers[i] = (state / 2 ** 31 - 1) * (i % 29 === 13 ? 50 : 1);
  }
  return numbers;
}

/** The values as an activation buffer holds them. */
export function asElem(gpu: Gpu, values: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  return gpu.variant === 'f32' ? values : asHalf(values);
}

/** The values as 16 bits hold them. */
export function asHalf(values: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  return values.map((value) => halfToFloat(floatToHalf(value)));
}

export function upload(gpu: Gpu, data: Float32Array | Uint32Array | Uint8Array): GPUBuffer {
  const bytes = new Uint8Array(Math.ceil(data.byteLength / 4) * 4);
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  const buffer = gpu.storage('test', bytes.length);
  gpu.device.queue.writeBuffer(buffer, 0, bytes);
  return buffer;
}

export function uploadElem(gpu: Gpu, values: Float32Array): GPUBuffer {
  return gpu.variant === 'f32' ? upload(gpu, values) : uploadHalf(gpu, values);
}

/** A or B of an adapter on the GPU. */
export interface TestFactor {
  readonly buffer: GPUBuffer;
  readonly kept: Float32Array; // the values as the kernels read them, units included
  readonly units: Float32Array; // of its components: halves have 1
}

export function uploadFactor(
  gpu: Gpu,
  values: Float32Array<ArrayBuffer>,
  components: number,
  along: 'rows' | 'columns',
): TestFactor {
  const halves = Uint16Array.from(values, floatToHalf);
  if (gpu.factors === 'halves') {
    const units = new Float32Array(components).fill(1);
    return { buffer: uploadBits(gpu, halves), kept: asHalf(values), units };
  }
  const { bits, units } = packFactor(halves, components, along);
  const length = values.length / components;
  const kept = Float32Array.from(new Int16Array(bits.buffer), (integer, i) => {
    const component = along === 'rows' ? Math.floor(i / length) : i % components;
    return integer * 2 ** 16 * (units[component] ?? NaN);
  });
  return { buffer: uploadBits(gpu, bits), kept, units };
}

/** z as adapter_down leaves it for this B. */
export function timesUnits(z: Float32Array<ArrayBuffer>, { units }: TestFactor) {
  return z.map((value, i) => value * (units[i % units.length] ?? NaN));
}

/** Numbers of a router: 16 bits each in every variant. */
export function uploadHalf(gpu: Gpu, values: Float32Array): GPUBuffer {
  return uploadBits(gpu, Uint16Array.from(values, floatToHalf));
}

function uploadBits(gpu: Gpu, bits: Uint16Array<ArrayBuffer>): GPUBuffer {
  return upload(gpu, new Uint8Array(bits.buffer));
}

export function uploadParams(gpu: Gpu, tokens: number, position = 0, first = 0): GPUBuffer {
  const buffer = gpu.params('test');
  gpu.device.queue.writeBuffer(buffer, 0, new Uint32Array([tokens, position, first, 0]));
  return buffer;
}

/** Runs the steps and returns `count` f32 of a buffer. */
export async function runSteps(
  gpu: Gpu,
  steps: readonly Step[],
  tokens: number,
  result: GPUBuffer,
  count: number,
): Promise<Float32Array> {
  const staging = gpu.staging('test', count * 4);
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  gpu.encode(pass, steps, tokens);
  pass.end();
  encoder.copyBufferToBuffer(result, 0, staging, 0, count * 4);
  gpu.device.queue.submit([encoder.finish()]);
  const values = new Float32Array(count);
  await gpu.read(staging, values);
  return values;
}

/** As runSteps, for a buffer of elem. */
export async function runStepsElem(
  gpu: Gpu,
  steps: readonly Step[],
  tokens: number,
  result: GPUBuffer,
  count: number,
): Promise<Float32Array> {
  if (gpu.variant === 'f32') return runSteps(gpu, steps, tokens, result, count);
  const words = await runSteps(gpu, steps, tokens, result, Math.ceil(count / 2));
  return Float32Array.from(new Uint16Array(words.buffer, 0, count), halfToFloat);
}

/**
 * The largest |actual - expected| in units of what may be lost: `part` of the size of what was
 * summed there. At most 1 where the kernel is right.
 * @param sizes what the sum would be with every term positive; the values themselves if left out
 */
export function worstError(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  part: number,
  sizes: ArrayLike<number> = expected,
): number {
  if (actual.length !== expected.length) {
    throw new RangeError(`${actual.length} values, expected ${expected.length}`);
  }
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const allowed = part * Math.abs(sizes[i] ?? 0) + 1e-30;
    const error = Math.abs((actual[i] ?? NaN) - (expected[i] ?? NaN)) / allowed;
    if (!(error <= worst)) worst = error; // NaN counts as the worst
  }
  return worst;
}

/** Sums of f32 products in any order: 2^-20 of the terms' sizes is generous and far below a slip. */
export const sumPart = 2 ** -20;

/** What storing a result as elem may lose on top of f32 sums. */
export function elemPart(gpu: Gpu): number {
  return gpu.variant === 'f16' ? 2 ** -10 : sumPart;
}
