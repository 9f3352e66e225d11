import { Failure } from '../failure.ts';
import type { GpuDevice, Variant } from './device.ts';
import { preludeOf, type CacheType, type KernelTypes } from './prelude.ts';
import type { FactorType, Tuning } from './tuning.ts';

/** Workgroups beyond this many in x go to the next y; the shaders know the same number. */
const FOLD = 32768;
const PARAMS_BYTES = 16;

/** Workgroups of a dispatch: x and y are fixed, z walks the tokens. */
export interface Grid {
  readonly x: number;
  readonly y: number;
  /** Tokens that one workgroup takes. */
  readonly tokens: number;
}

/** A kernel with its buffers, ready to be dispatched any number of times. */
export interface Step {
  readonly kernel: string;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly grid: Grid;
}

/** A compiled shader; `bind` gives it buffers, in the order of its bindings. */
export interface Kernel {
  readonly name: string;
  bind(buffers: readonly (GPUBuffer | GPUBufferBinding)[], grid: Grid): Step;
}

/** `workgroups` of them for each token, folded into two dimensions where they are too many for one. */
export function gridOf(workgroups: number, tokens = 1): Grid {
  if (workgroups <= FOLD) return { x: workgroups, y: 1, tokens };
  return { x: FOLD, y: Math.ceil(workgroups / FOLD), tokens };
}

/** The device with what is made on it: kernels, buffers, passes. */
export class Gpu {
  readonly device: GPUDevice;
  readonly variant: Variant;
  readonly cache: CacheType;
  readonly tuning: Tuning;
  readonly factors: FactorType;
  /** Bytes of a value whose type the prelude sets: activations, KV cache. */
  readonly elemBytes: number;
  readonly #owner: GpuDevice;
  readonly #modules = new Map<string, Promise<GPUShaderModule>>();
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  /** Everything that was compiled: source with its prelude, overrides. */
  readonly #compiled = new Set<string>();
  readonly #buffers: GPUBuffer[] = [];

  constructor(owner: GpuDevice) {
    this.device = owner.device;
    this.variant = owner.variant;
    this.cache = owner.cache;
    this.tuning = owner.tuning;
    this.factors = owner.variant === 'f16' ? 'halves' : owner.tuning.factors;
    this.elemBytes = owner.variant === 'f16' ? 2 : 4;
    this.#owner = owner;
  }

  /**
   * Compiles a shader with its overrides and types; the same three are compiled once.
   * @throws Error that names kernel, line and column of what the compiler refused
   */
  async kernel(
    name: string,
    wgsl: string,
    constants: Readonly<Record<string, number>>,
    types: KernelTypes = {},
  ): Promise<Kernel> {
    const prelude = preludeOf(this, types);
    const source = `${prelude} ${name}`;
    const key = `${source} ${JSON.stringify(constants)}`;
    this.#compiled.add(`${key} ${wgsl}`);
    const pipeline = await remember(this.#pipelines, key, async () => {
      const module = await remember(this.#modules, source, () =>
        this.#compile(name, prelude + wgsl),
      );
      return this.#pipeline(name, module, constants);
    });
    const { device } = this;
    const layout = pipeline.getBindGroupLayout(0);
    return {
      name,
      bind(buffers, grid) {
        const entries = buffers.map((resource, binding) => ({ binding, resource }));
        const group = device.createBindGroup({ label: name, layout, entries });
        return { kernel: name, pipeline, group, grid };
      },
    };
  }

  /** A buffer for shaders, filled with zeros, destroyed with this object. */
  storage(label: string, bytes: number): GPUBuffer {
    const { STORAGE, COPY_DST, COPY_SRC } = GPUBufferUsage;
    return this.#buffer(label, bytes, STORAGE | COPY_DST | COPY_SRC);
  }

  /** The uniform Params of a pass: tokens, position, first. */
  params(label: string): GPUBuffer {
    return this.#buffer(label, PARAMS_BYTES, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
  }

  /** A buffer that results are copied to, to be mapped and read. */
  staging(label: string, bytes: number): GPUBuffer {
    return this.#buffer(label, bytes, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
  }

  /** Records steps over `tokens` tokens into an open pass. */
  encode(pass: GPUComputePassEncoder, steps: readonly Step[], tokens: number): void {
    for (const { pipeline, group, grid } of steps) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(grid.x, grid.y, Math.ceil(tokens / grid.tokens));
    }
  }

  /**
   * Reads a staging buffer into `into`, once what was submitted before is done.
   * @throws Failure DeviceLost; Error for whatever else WebGPU complained of meanwhile
   */
  async read(staging: GPUBuffer, into: Float32Array<ArrayBuffer>): Promise<void> {
    try {
      await staging.mapAsync(GPUMapMode.READ, 0, into.byteLength);
    } catch (cause) {
      this.#owner.check();
      const lost = cause instanceof Error && cause.name === 'AbortError';
      if (!lost) throw cause; // mapped already: a call that overlaps another
      throw new Failure('DeviceLost', 'the GPU went away before its result was read', { cause });
    }
    into.set(new Float32Array(staging.getMappedRange(0, into.byteLength)));
    staging.unmap();
    this.#owner.check();
  }

  /** Waits until everything submitted is done. @throws as `read` does */
  async idle(): Promise<void> {
    await this.device.queue.onSubmittedWorkDone();
    this.#owner.check();
  }

  /**
   * Runs `make` and reports what did not fit into the memory of the GPU.
   * @throws Failure DeviceLimit
   */
  async withinMemory<T>(what: string, make: () => T | Promise<T>): Promise<T> {
    this.device.pushErrorScope('out-of-memory');
    const [made] = await Promise.allSettled([(async () => make())()]);
    const error = await this.device.popErrorScope();
    if (error !== null) {
      throw new Failure('DeviceLimit', `the GPU has no memory for ${what}: ${error.message}`);
    }
    if (made.status === 'rejected') throw made.reason;
    return made.value;
  }

  /**
   * Device, types, cut and every kernel that was compiled, in words: with the same, the same
   * numbers come out.
   */
  get program(): string {
    const { variant, cache, tuning } = this;
    const how = JSON.stringify({ identity: this.#owner.identity, variant, cache, tuning });
    return [how, ...[...this.#compiled].sort()].join('\n');
  }

  /** What WGSL offers on this device beyond its first version. */
  get language(): ReadonlySet<string> {
    return this.#owner.language;
  }

  /** Destroys the buffers made here. The device is its owner's. */
  dispose(): void {
    for (const buffer of this.#buffers.splice(0)) buffer.destroy();
  }

  #buffer(label: string, bytes: number, usage: GPUBufferUsageFlags): GPUBuffer {
    const buffer = this.device.createBuffer({ label, size: Math.ceil(bytes / 16) * 16, usage });
    this.#buffers.push(buffer);
    return buffer;
  }

  async #compile(name: string, code: string): Promise<GPUShaderModule> {
    this.device.pushErrorScope('validation');
    const module = this.device.createShaderModule({ label: name, code });
    const [error, info] = await Promise.all([
      this.device.popErrorScope(),
      module.getCompilationInfo(),
    ]);
    const messages = info.messages.filter(({ type }) => type === 'error');
    if (messages.length > 0) {
      const lines = messages.map((m) => `${name}.wgsl:${m.lineNum}:${m.linePos} ${m.message}`);
      throw new Error(lines.join('\n'));
    }
    if (error !== null) throw new Error(`${name}.wgsl: ${error.message}`);
    return module;
  }

  async #pipeline(
    name: string,
    module: GPUShaderModule,
    constants: Readonly<Record<string, number>>,
  ): Promise<GPUComputePipeline> {
    const compute = { module, entryPoint: 'main', constants };
    try {
      return await this.device.createComputePipelineAsync({ label: name, layout: 'auto', compute });
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`${name}.wgsl with ${JSON.stringify(constants)}: ${why}`, { cause });
    }
  }
}

/** The value of `key`, made once, also while it is still being made. */
function remember<T>(
  map: Map<string, Promise<T>>,
  key: string,
  make: () => Promise<T>,
): Promise<T> {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
