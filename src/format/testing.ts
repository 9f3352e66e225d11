import { blockBytes, columnsOf, roundUp } from './layout.ts';
import {
  TENSOR_ALIGNMENT,
  type AdaptedLinear,
  type AdapterInfo,
  type Manifest,
  type ModelConfig,
  type TensorInfo,
} from './manifest.ts';
import { baseTensors } from './meaning.ts';

/** A whole manifest of a tiny package without bytes, for tests. */

const sizes: ModelConfig = {
  architecture: 'baichuan2',
  vocab: 300,
  width: 32,
  layers: 2,
  heads: 2,
  kvHeads: 2,
  headDim: 16,
  mlpWidth: 64,
  normEps: 1e-6,
  positions: { kind: 'rope', theta: 10000 },
  capacity: 64,
};

const EXPERTS = 4;
const RANK = 2;

export function exampleManifest(
  mode: 'merged' | 'routed' = 'merged',
  changes: Partial<ModelConfig> = {},
): Manifest {
  const config = { ...sizes, ...changes };
  const linears = adaptedLinears(mode);
  const base = place('shard-00000.bin', baseTensors(config));
  const extra = place('adapter-00000.bin', adapterTensors(linears));
  const top = [9, 8, 7, 6, 5].map((logit, i) => ({ id: 40 + i, logit }));
  return {
    format: 1,
    id: 'example',
    name: { zh: '示例', en: 'Example' },
    licence: 'MIT',
    intendedUse: { zh: '测试', en: 'tests' },
    limits: { zh: '无', en: 'none' },
    provenance: {
      converter: 'test',
      checkpointSha256: '0'.repeat(64),
      stages: [{ name: 'cpt', steps: 1, tokens: 2, seconds: 0.5, loss: null }],
      data: [{ source: 'sample', licence: 'MIT', records: 3 }],
      metrics: { 'valid.loss': 1.5 },
    },
    config,
    quantization: { group: 32, origin: 'convert' },
    files: [
      { name: 'tokenizer.json', bytes: 100, sha256: 'a'.repeat(64) },
      { name: 'shard-00000.bin', bytes: base.bytes, sha256: 'b'.repeat(64) },
      { name: 'adapter-00000.bin', bytes: extra.bytes, sha256: 'c'.repeat(64) },
    ],
    tensors: [...base.tensors, ...extra.tensors],
    adapter: adapter(mode, linears),
    tasks: [
      { id: 'medkqa', title: { zh: '知识问答', en: 'Questions' }, system: '' },
      { id: 'evidiag', title: { zh: '循证诊断', en: 'Diagnosis' }, system: '' },
    ],
    template: {
      system: { prefix: '', suffix: '\n' },
      user: { prefix: 'Human: ', suffix: '\nAssistant: ' },
      assistant: { prefix: '', suffix: '' },
      separator: '\n',
      endId: 2,
      stopIds: [2],
    },
    sampling: { temperature: 0.7, topK: 50, topP: 0.9, repetitionPenalty: 1.1, maxTokens: 64 },
    knownAnswer: {
      tolerance: { f32: 0.02, f16: 0.15 },
      tasks: { medkqa: { tokens: [75, 120], top: [top, top], greedy: [41] } },
    },
  };
}

function adaptedLinears(mode: 'merged' | 'routed'): AdaptedLinear[] {
  const linear = (i: number, name: string, tensor: string, rows: [number, number]) => ({
    linear: `layers.${i}.mlp.${name}`,
    tensor: `layers.${i}.${tensor}`,
    rows,
    a: `adapter.layers.${i}.${name}.a`,
    b: `adapter.layers.${i}.${name}.b`,
    router: mode === 'routed' ? `adapter.layers.${i}.${name}.router` : null,
  });
  return [0, 1].flatMap((i) => [
    linear(i, 'gate_proj', 'gate_up', [0, sizes.mlpWidth]),
    linear(i, 'up_proj', 'gate_up', [sizes.mlpWidth, 2 * sizes.mlpWidth]),
    linear(i, 'down_proj', 'down', [0, sizes.width]),
  ]);
}

function adapterTensors(linears: readonly AdaptedLinear[]): Omit<TensorInfo, 'blocks'>[] {
  return linears.flatMap(({ tensor, rows, a, b, router }) => {
    const columns = tensor.endsWith('down') ? sizes.mlpWidth : sizes.width;
    const tensors = [
      { name: a, dtype: 'f16' as const, shape: [EXPERTS * RANK, columns] },
      { name: b, dtype: 'f16' as const, shape: [rows[1] - rows[0], EXPERTS * RANK] },
    ];
    if (router === null) return tensors;
    return [...tensors, { name: router, dtype: 'f16' as const, shape: [EXPERTS - 1, columns] }];
  });
}

function adapter(mode: 'merged' | 'routed', linears: AdaptedLinear[]): AdapterInfo {
  const row = [0.5, 0.25, 0.25];
  return {
    mode,
    router: 'trained',
    experts: EXPERTS,
    rank: RANK,
    alpha: 16,
    targets: ['gate_proj', 'up_proj', 'down_proj'],
    linears,
    gates:
      mode === 'routed'
        ? {}
        : { medkqa: linears.map(() => [...row]), evidiag: linears.map(() => [...row]) },
  };
}

/** Lays tensors one after the other into a file; every second matrix is cut into two blocks. */
function place(
  file: string,
  shapes: readonly Omit<TensorInfo, 'blocks'>[],
): { tensors: TensorInfo[]; bytes: number } {
  let end = 0;
  const tensors = shapes.map((tensor, i): TensorInfo => {
    const rows = tensor.shape[0] ?? 0;
    const cut = i % 2 === 1 && tensor.shape.length === 2 ? Math.floor(rows / 3) : rows;
    const spans = cut === rows ? [[0, rows] as const] : [[0, cut] as const, [cut, rows] as const];
    const blocks = spans.map(([from, to]) => {
      const offset = roundUp(end, TENSOR_ALIGNMENT);
      const bytes = blockBytes(tensor.dtype, to - from, columnsOf(tensor));
      end = offset + bytes;
      return { file, offset, bytes, rows: [from, to] as [number, number] };
    });
    return { ...tensor, shape: [...tensor.shape], blocks };
  });
  return { tensors, bytes: end };
}
