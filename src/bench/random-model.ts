import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeShards } from '../../convert/shards.ts';
import type { PackageTensor } from '../../convert/tensors.ts';
import { floatToHalf } from '../format/dtype.ts';
import { sha256 } from '../format/hash.ts';
import { blockBytes, parseManifest, qPlaneBytes } from '../format/layout.ts';
import {
  GROUP_SIZE,
  MAX_SHARD_BYTES,
  type AdapterInfo,
  type FileInfo,
  type Manifest,
  type ModelConfig,
  type TensorInfo,
} from '../format/manifest.ts';
import { baseTensors } from '../format/meaning.ts';

/** Models of any shape with random weights: speed does not depend on what weights say. */

export interface Shape {
  readonly vocab: number;
  readonly width: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly mlpWidth: number;
  readonly capacity: number;
  /** E * r of an adapter of four experts on gate, up and down; 0 is none. */
  readonly adapterRank: number;
  readonly seed: number;
}

const EXPERTS = 4;
const both = { zh: '测速', en: 'Benchmark' };
const tasks = ['medkqa', 'evidiag', 'trerecom'].map((id) => ({ id, title: both, system: '' }));

/** A package that never was a file. */
export interface MemoryPackage {
  readonly manifest: Manifest;
  readonly read: (file: string) => Promise<Uint8Array<ArrayBuffer>>;
}

/** Writes a package of the shape, or takes the one that is there. @returns its folder */
export async function randomPackage(cache: string, shape: Shape): Promise<string> {
  const folder = join(cache, idOf(shape));
  if (await isThere(join(folder, 'manifest.json'))) return folder;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const { base, adapter, info } = tensorsOf(shape);
  const tokenizer = new TextEncoder().encode('{}');
  const files: FileInfo[] = [
    { name: 'tokenizer.json', bytes: tokenizer.length, sha256: await sha256(tokenizer) },
  ];
  const tensors: TensorInfo[] = [];
  for (const [stem, list] of [
    ['shard', base],
    ['adapter', adapter],
  ] as const) {
    const written = await writeShards(folder, stem, list, MAX_SHARD_BYTES);
    files.push(...written.files);
    tensors.push(...written.tensors);
  }
  const json = new TextEncoder().encode(JSON.stringify(manifestOf(shape, files, tensors, info)));
  parseManifest(json);
  await writeFile(join(folder, 'tokenizer.json'), tokenizer);
  await writeFile(join(folder, 'manifest.json'), json);
  return folder;
}

/** The same in memory: a file is made when it is read, and holds one block. */
export function memoryPackage(shape: Shape): MemoryPackage {
  const { base, adapter, info } = tensorsOf(shape);
  const makers = new Map<string, () => Promise<Uint8Array<ArrayBuffer>>>();
  const files: FileInfo[] = [];
  const tensors = [...base, ...adapter].map((tensor): TensorInfo => {
    const { name, dtype, shape } = tensor;
    const [rows = 1, columns = 1] = shape;
    const step = Math.max(1, Math.floor(MAX_SHARD_BYTES / blockBytes(dtype, 1, columns)));
    const blocks: TensorInfo['blocks'] = [];
    for (let from = 0; from < rows; from += step) {
      const to = Math.min(rows, from + step);
      const bytes = blockBytes(dtype, to - from, columns);
      const file = `${name.toLowerCase()}-${from}.bin`;
      makers.set(file, async () => {
        const block = new Uint8Array(bytes);
        await tensor.write(from, to, block);
        return block;
      });
      files.push({ name: file, bytes, sha256: '0'.repeat(64) });
      blocks.push({ file, offset: 0, bytes, rows: [from, to] });
    }
    return { name, dtype, shape: [...shape], blocks };
  });
  return {
    manifest: manifestOf(shape, files, tensors, info),
    read: (file) => {
      const make = makers.get(file);
      return make ? make() : Promise.reject(new Error(`no file ${file}`));
    },
  };
}

/** A name that says all of the shape. */
export function idOf({
  vocab,
  width,
  layers,
  heads,
  kvHeads,
  mlpWidth,
  capacity,
  adapterRank,
  seed,
}: Shape): string {
  return `random-${width}x${mlpWidth}-l${layers}-h${heads}-k${kvHeads}-v${vocab}-c${capacity}-r${adapterRank}-s${seed}`;
}

function configOf({
  vocab,
  width,
  layers,
  heads,
  kvHeads,
  mlpWidth,
  capacity,
}: Shape): ModelConfig {
  return {
    architecture: 'llama',
    vocab,
    width,
    layers,
    heads,
    kvHeads,
    headDim: width / heads,
    mlpWidth,
    normEps: 1e-6,
    positions: { kind: 'rope', theta: 10000 },
    capacity,
  };
}

function tensorsOf(shape: Shape) {
  const config = configOf(shape);
  const base = baseTensors(config).map(({ name, dtype, shape: size }, i) =>
    randomTensor(name, dtype, size, shape.seed * 7919 + i),
  );
  if (shape.adapterRank === 0) return { base, adapter: [], info: null };
  return { base, ...adapterOf(config, shape) };
}

function adapterOf(
  { layers, width, mlpWidth }: ModelConfig,
  { adapterRank, seed }: Shape,
): { adapter: PackageTensor[]; info: AdapterInfo } {
  const linears: AdapterInfo['linears'] = [];
  const adapter: PackageTensor[] = [];
  const targets = [
    ['gate_proj', 'gate_up', 0, mlpWidth, width],
    ['up_proj', 'gate_up', mlpWidth, 2 * mlpWidth, width],
    ['down_proj', 'down', 0, width, mlpWidth],
  ] as const;
  for (let i = 0; i < layers; i++) {
    for (const [target, tensor, from, to, columns] of targets) {
      const name = `adapter.layers.${i}.${target}`;
      const number = seed * 7919 + 100_000 + adapter.length;
      adapter.push(randomTensor(`${name}.a`, 'f16', [adapterRank, columns], number));
      adapter.push(randomTensor(`${name}.b`, 'f16', [to - from, adapterRank], number + 1));
      linears.push({
        linear: `layers.${i}.mlp.${target}`,
        tensor: `layers.${i}.${tensor}`,
        rows: [from, to],
        a: `${name}.a`,
        b: `${name}.b`,
        router: null,
      });
    }
  }
  const gates = Object.fromEntries(
    tasks.map(({ id }, task) => [
      id,
      linears.map((_, i) => {
        const first = ((task * 5 + i * 3) % 7) / 10 + 0.1;
        return [first, (1 - first) * 0.75, (1 - first) * 0.25];
      }),
    ]),
  );
  const rank = adapterRank / EXPERTS;
  const names = targets.map(([target]) => target);
  return {
    adapter,
    info: { mode: 'merged', router: 'trained', experts: EXPERTS, rank, alpha: 2 * rank, targets: names, linears, gates }, // prettier-ignore
  };
}

function manifestOf(
  shape: Shape,
  files: FileInfo[],
  tensors: TensorInfo[],
  adapter: AdapterInfo | null,
): Manifest {
  const piece = { prefix: '', suffix: '' };
  return {
    format: 1,
    id: idOf(shape)
      .slice(0, 64)
      .replace(/[^a-z0-9]+$/, ''),
    name: both,
    licence: 'MIT',
    intendedUse: both,
    limits: both,
    provenance: { converter: 'bench', checkpointSha256: '0'.repeat(64), stages: [], data: [], metrics: {} }, // prettier-ignore
    config: configOf(shape),
    quantization: { group: GROUP_SIZE, origin: 'convert' },
    files: files.some(({ name }) => name === 'tokenizer.json')
      ? files
      : [{ name: 'tokenizer.json', bytes: 2, sha256: '0'.repeat(64) }, ...files],
    tensors,
    adapter,
    tasks,
    template: { system: piece, user: piece, assistant: piece, separator: '', endId: 2, stopIds: [2] }, // prettier-ignore
    sampling: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, maxTokens: 16 },
    knownAnswer: null,
  };
}

/** Random numbers of a size that keeps activations near 1; norms are 1. */
function randomTensor(
  name: string,
  dtype: TensorInfo['dtype'],
  shape: readonly number[],
  seed: number,
): PackageTensor {
  const columns = shape[1] ?? 1;
  // Uniform integers have these standard deviations; embeddings are around 1, logits around 3.
  const deviation = { q4: 4.61, q8: 73.9, f16: 1, f32: 1 }[dtype];
  const size = name === 'embed' ? 1 : name === 'head' ? 3 / Math.sqrt(columns) : 1 / Math.sqrt(columns); // prettier-ignore
  const write = (from: number, to: number, block: Uint8Array): Promise<null> => {
    const rows = to - from;
    const plane = qPlaneBytes(dtype, rows, columns);
    const next = randomWords(seed * 65_537 + from);
    if (dtype === 'f32') {
      new Float32Array(block.buffer, block.byteOffset, rows * columns).fill(1);
      return Promise.resolve(null);
    }
    if (dtype === 'f16') {
      const halves = new Uint16Array(block.buffer, block.byteOffset, rows * columns);
      const bits = floatToHalf(size * 0.5);
      for (let i = 0; i < halves.length; i++) halves[i] = halfNear(bits, next());
      return Promise.resolve(null);
    }
    const words = new Uint32Array(block.buffer, block.byteOffset, plane / 4);
    for (let i = 0; i < words.length; i++) words[i] = next();
    const scales = new Uint16Array(block.buffer, block.byteOffset + plane, (rows * columns) / GROUP_SIZE); // prettier-ignore
    const bits = floatToHalf(size / deviation);
    for (let i = 0; i < scales.length; i++) scales[i] = halfNear(bits, next());
    return Promise.resolve(null);
  };
  return { name, dtype, shape, write };
}

/** A half of about that size, either sign. */
export function halfNear(bits: number, random: number): number {
  return (bits ^ (random & 0x7f)) | (random & 0x8000);
}

/** xorshift32. */
export function randomWords(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b9) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state;
  };
}

async function isThere(path: string): Promise<boolean> {
  return readFile(path).then(
    () => true,
    (error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
      throw error;
    },
  );
}
