import { dequantizeBlock, floatToHalf, packQ4, packQ8, quantizedBlock } from '../format/dtype.ts';
import { blockBytes, parseManifest, roundUp } from '../format/layout.ts';
import {
  TENSOR_ALIGNMENT,
  type AdaptedLinear,
  type Manifest,
  type ModelConfig,
  type TensorInfo,
} from '../format/manifest.ts';
import { requestGpu, type GpuDevice } from '../gpu/device.ts';
import { testDriver, testNumbers, type GpuCase } from '../gpu/testing.ts';
import { softwareTuning } from '../gpu/tuning.ts';
import { Model } from './model.ts';

/** Packages made of random numbers, for tests: as a converter would write them, but in memory. */

export interface TestPackageOptions {
  readonly config?: Partial<ModelConfig>;
  readonly mode?: 'merged' | 'routed' | 'none';
  readonly targets?: readonly string[];
  readonly experts?: number;
  readonly rank?: number;
  /** Most rows of a block: larger tensors are cut. */
  readonly blockRows?: number;
}

export interface TestPackage {
  readonly manifest: Manifest;
  /** The values of every tensor as its bytes say, [rows, columns]. */
  readonly values: ReadonlyMap<string, Float32Array>;
  read(file: string): Promise<Uint8Array<ArrayBuffer>>;
}

export const tinyConfig: ModelConfig = {
  architecture: 'baichuan2',
  vocab: 83,
  width: 64,
  layers: 2,
  heads: 4,
  kvHeads: 4,
  headDim: 16,
  mlpWidth: 96,
  normEps: 1e-6,
  positions: { kind: 'rope', theta: 10000 },
  capacity: 48,
};
const both = { zh: '测试', en: 'test' };

/** Writes tensors into one file, block after block. */
class ShardWriter {
  readonly tensors: TensorInfo[] = [];
  readonly values: Map<string, Float32Array>;
  readonly name: string;
  readonly #blockRows: number;
  readonly #blocks: { offset: number; bytes: Uint8Array }[] = [];
  #end = 0;

  constructor(name: string, blockRows: number, values: Map<string, Float32Array>) {
    this.name = name;
    this.values = values;
    this.#blockRows = blockRows;
  }

  add(name: string, dtype: TensorInfo['dtype'], shape: [number, number?], scale: number): void {
    const [rows, columns = 1] = shape;
    const numbers = testNumbers(rows * columns, name.length + this.values.size);
    this.#write(
      name,
      dtype,
      shape,
      numbers.map((value) => value * scale + (columns === 1 ? 1 : 0)),
    );
  }

  /** A or B of an adapter: its numbers are within a factor of 16, so that integers keep them all. */
  addFactor(name: string, shape: [number, number], scale: number): void {
    const numbers = testNumbers(shape[0] * shape[1], name.length + this.values.size);
    const even = (value: number): number =>
      Math.sign(value) * (0.1 + Math.abs(value) / (1 + Math.abs(value)));
    this.#write(
      name,
      'f16',
      shape,
      numbers.map((value) => even(value) * scale),
    );
  }

  #write(
    name: string,
    dtype: TensorInfo['dtype'],
    shape: [number, number?],
    values: Float32Array<ArrayBuffer>,
  ): void {
    const [rows, columns = 1] = shape;
    const blocks = [];
    const kept = new Float32Array(values.length);
    for (let from = 0; from < rows; from += this.#blockRows) {
      const to = Math.min(from + this.#blockRows, rows);
      const part = values.slice(from * columns, to * columns);
      const bytes = encode(dtype, part, to - from, columns);
      kept.set(dequantizeBlock(dtype, bytes, to - from, columns), from * columns);
      const offset = roundUp(this.#end, TENSOR_ALIGNMENT);
      this.#end = offset + bytes.length;
      this.#blocks.push({ offset, bytes });
      blocks.push({
        file: this.name,
        offset,
        bytes: bytes.length,
        rows: [from, to] as [number, number],
      });
    }
    this.values.set(name, kept);
    this.tensors.push({ name, dtype, shape: shape.filter((n) => n !== undefined), blocks });
  }

  bytes(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#end);
    for (const { offset, bytes: block } of this.#blocks) bytes.set(block, offset);
    return bytes;
  }
}

function encode(
  dtype: TensorInfo['dtype'],
  values: Float32Array<ArrayBuffer>,
  rows: number,
  columns: number,
): Uint8Array<ArrayBuffer> {
  if (dtype === 'q4') return quantizedBlock('q4', packQ4(values, rows, columns), rows, columns);
  if (dtype === 'q8') return quantizedBlock('q8', packQ8(values, rows, columns), rows, columns);
  const bytes = new Uint8Array(blockBytes(dtype, rows, columns));
  const numbers = dtype === 'f16' ? Uint16Array.from(values, floatToHalf) : values;
  bytes.set(new Uint8Array(numbers.buffer));
  return bytes;
}

/** What a linear of the original model is called in the package. */
function hostsOf({ heads, kvHeads, headDim, width, mlpWidth }: ModelConfig) {
  const [queries, keys] = [heads * headDim, (heads + kvHeads) * headDim];
  const qkv = (heads + 2 * kvHeads) * headDim;
  return {
    W_pack: { path: 'self_attn.W_pack', tensor: 'qkv', rows: [0, qkv], columns: width },
    q_proj: { path: 'self_attn.q_proj', tensor: 'qkv', rows: [0, queries], columns: width },
    k_proj: { path: 'self_attn.k_proj', tensor: 'qkv', rows: [queries, keys], columns: width },
    v_proj: { path: 'self_attn.v_proj', tensor: 'qkv', rows: [keys, qkv], columns: width },
    o_proj: {
      path: 'self_attn.o_proj',
      tensor: 'attention_out',
      rows: [0, width],
      columns: heads * headDim,
    },
    gate_proj: { path: 'mlp.gate_proj', tensor: 'gate_up', rows: [0, mlpWidth], columns: width },
    up_proj: {
      path: 'mlp.up_proj',
      tensor: 'gate_up',
      rows: [mlpWidth, 2 * mlpWidth],
      columns: width,
    },
    down_proj: { path: 'mlp.down_proj', tensor: 'down', rows: [0, width], columns: mlpWidth },
  } as const;
}

export function testPackage(options: TestPackageOptions = {}): TestPackage {
  const { mode = 'merged', blockRows = Infinity, experts = 3 } = options;
  const { rank = 3 } = options; // with three experts nine columns, so that B is padded
  const config = { ...tinyConfig, ...options.config };
  const targets = options.targets ?? ['gate_proj', 'up_proj', 'down_proj'];
  const values = new Map<string, Float32Array>();
  const base = new ShardWriter('shard-00000.bin', blockRows, values);
  const extra = new ShardWriter('adapter-00000.bin', blockRows, values);
  addBase(base, config);
  const routed = mode === 'routed';
  const shape = { config, experts, rank, routed, targets };
  const linears = mode === 'none' ? [] : addAdapter(extra, shape);
  const tasks = ['medkqa', 'evidiag', 'trerecom'].map((id) => ({ id, title: both, system: '' }));
  const gates = Object.fromEntries(
    tasks.map(({ id }, task) => [id, linears.map((_, i) => gatesOf(task, i, experts))]),
  );
  const shards = mode === 'none' ? [base] : [base, extra];
  const contents = new Map(shards.map((shard) => [shard.name, shard.bytes()]));
  contents.set('tokenizer.json', new TextEncoder().encode('{}'));
  const piece = { prefix: '', suffix: '' };
  const manifest = {
    format: 1,
    id: 'test',
    name: both,
    licence: 'MIT',
    intendedUse: both,
    limits: both,
    provenance: {
      converter: 'test',
      checkpointSha256: '0'.repeat(64),
      stages: [],
      data: [],
      metrics: {},
    },
    config,
    quantization: { group: 32, origin: 'convert' },
    files: [...contents].map(([name, { length }]) => ({
      name,
      bytes: length,
      sha256: '0'.repeat(64),
    })),
    tensors: shards.flatMap((shard) => shard.tensors),
    adapter:
      mode === 'none'
        ? null
        : { mode, router: 'trained', experts, rank, alpha: 6, targets, linears, gates },
    tasks,
    template: {
      system: piece,
      user: piece,
      assistant: piece,
      separator: '',
      endId: 2,
      stopIds: [2],
    },
    sampling: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, maxTokens: 16 },
    knownAnswer: null,
  };
  return {
    manifest: parseManifest(new TextEncoder().encode(JSON.stringify(manifest))),
    values,
    read: (file) => {
      const bytes = contents.get(file);
      return bytes ? Promise.resolve(bytes) : Promise.reject(new Error(`no file ${file}`));
    },
  };
}

/** Sizes of the numbers keep activations near 1 through the layers. */
function addBase(shard: ShardWriter, config: ModelConfig): void {
  const { vocab, width, layers, heads, kvHeads, headDim, mlpWidth } = config;
  const qkvRows = (heads + 2 * kvHeads) * headDim;
  shard.add('embed', 'q8', [vocab, width], 0.3);
  for (let i = 0; i < layers; i++) {
    shard.add(`layers.${i}.attention_norm`, 'f32', [width], 0.01);
    shard.add(`layers.${i}.qkv`, 'q4', [qkvRows, width], 0.01);
    if (config.qkvBias) shard.add(`layers.${i}.qkv_bias`, 'f32', [qkvRows], 0.05);
    if (config.qkNorm) shard.add(`layers.${i}.qk_norm`, 'f32', [2 * headDim], 0.02);
    shard.add(`layers.${i}.attention_out`, 'q4', [width, heads * headDim], 0.01);
    shard.add(`layers.${i}.mlp_norm`, 'f32', [width], 0.01);
    shard.add(`layers.${i}.gate_up`, 'q4', [2 * mlpWidth, width], 0.01);
    shard.add(`layers.${i}.down`, 'q4', [width, mlpWidth], 0.01);
  }
  shard.add('norm', 'f32', [width], 0.01);
  if (!config.tiedHead) shard.add('head', 'q8', [vocab, width], 0.01);
}

interface AdapterShape {
  readonly config: ModelConfig;
  readonly experts: number;
  readonly rank: number;
  readonly routed: boolean;
  readonly targets: readonly string[];
}

function addAdapter(
  shard: ShardWriter,
  { config, experts, rank, routed, targets }: AdapterShape,
): AdaptedLinear[] {
  const linears: AdaptedLinear[] = [];
  for (let i = 0; i < config.layers; i++) {
    for (const [target, { path, tensor, rows, columns }] of Object.entries(hostsOf(config))) {
      if (!targets.includes(target)) continue;
      const name = `adapter.layers.${i}.${target}`;
      shard.addFactor(`${name}.a`, [experts * rank, columns], 0.5);
      shard.addFactor(`${name}.b`, [rows[1] - rows[0], experts * rank], 0.5);
      if (routed) shard.add(`${name}.router`, 'f16', [experts - 1, columns], 0.05);
      linears.push({
        linear: `layers.${i}.${path}`,
        tensor: `layers.${i}.${tensor}`,
        rows: [rows[0], rows[1]],
        a: `${name}.a`,
        b: `${name}.b`,
        router: routed ? `${name}.router` : null,
      });
    }
  }
  return linears.reverse(); // in a package the order is free
}

/** Gates that differ by task and linear and add up to 1. */
function gatesOf(task: number, linear: number, experts: number): number[] {
  const raw = Array.from(
    { length: experts - 1 },
    (_, e) => ((task * 5 + linear * 3 + e * 7) % 11) + 1,
  );
  const total = raw.reduce((sum, value) => sum + value, 0);
  return raw.map((value) => value / total);
}

/** Nineteen tokens: chunks of them end with an odd one. */
export const testTokens = Array.from({ length: 19 }, (_, i) => (i * 37 + 5) % tinyConfig.vocab);

/**
 * What f32 sums may lose over two layers, and what storing activations in f16 costs on top, as a
 * part of the largest value of a row.
 */
export const tolerance = { f32: 2e-5, f16: 1e-2 };

export function openDevice({ variant, tuning }: Omit<GpuCase, 'title'>): Promise<GpuDevice> {
  return requestGpu(testDriver(variant), { variant, tuning });
}

export async function openModel(pkg: TestPackage, tuning = softwareTuning): Promise<Model> {
  const device = await openDevice({ variant: 'f32', tuning });
  return Model.load(device, pkg.manifest, (file) => pkg.read(file));
}

/** The largest difference as a part of the largest expected value. */
export function difference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let [worst, largest] = [0, 1e-30];
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs((actual[i] ?? NaN) - (expected[i] ?? NaN));
    if (!(error <= worst)) worst = error;
    largest = Math.max(largest, Math.abs(expected[i] ?? 0));
  }
  return worst / largest;
}
