import { join } from 'node:path';
import { Failure } from '../src/failure.ts';
import type { AdaptedLinear, AdapterInfo, ModelConfig } from '../src/format/manifest.ts';
import { readAdapterConfig, type AdapterConfig, type LinearName } from './adapter-config.ts';
import { findTensors, linearName, packExperts, packPlain, type Sizes } from './adapter-tensors.ts';
import { gateTable, readGates } from './gates.ts';
import type { PackageTensor } from './tensors.ts';
import { Weights } from './weights.ts';

/**
 * The adapter of a folder: a MoE-Adapter as the paper's code saves it (experts only, its router is
 * lost) or as our training does (router and gates per task beside the experts), or plain LoRA.
 */

export interface PackedAdapter {
  readonly info: AdapterInfo;
  readonly tensors: readonly PackageTensor[];
}

/**
 * A package has a universal expert and at least one specific one. Plain LoRA of rank r becomes two
 * of rank r/2: with one specific expert its gate is 1, so their sum is the whole of it.
 */
const PLAIN_EXPERTS = 2;

/**
 * Reads an adapter and checks it against the model and its tasks.
 * @throws Failure NotFound, BadCheckpoint
 */
export async function packAdapter(
  folder: string,
  model: ModelConfig,
  tasks: readonly string[],
): Promise<PackedAdapter> {
  const config = await readAdapterConfig(folder);
  const weights = await Weights.open(folder, 'adapter_model');
  try {
    const plain = config.experts === null;
    const found = findTensors(weights, folder, plain);
    const adapted = adaptedHosts(config, model, folder);
    const routers = [...found.values()].filter(({ router }) => router !== null).length;
    const gates = await readGates(folder);
    if (plain && gates !== null) throw bad(folder, 'task_gates.json beside plain LoRA: no experts');
    const mode = config.mode ?? (gates === null && routers > 0 ? 'routed' : 'merged');
    const experts = config.experts ?? PLAIN_EXPERTS;
    const rank = plain ? Math.ceil(config.rank / PLAIN_EXPERTS) : config.rank;
    const linears: AdaptedLinear[] = [];
    const tensors: PackageTensor[] = [];
    for (let layer = 0; layer < model.layers; layer++) {
      for (const [target, host] of adapted) {
        const linear = adaptedLinear(layer, target, host, mode);
        const names = found.get(linear.linear) ?? { a: null, b: null, router: null };
        found.delete(linear.linear);
        const outputs = host.rows[1] - host.rows[0];
        const sizes: Sizes = { experts, rank, inputs: host.inputs, outputs };
        const packed = plain
          ? packPlain(weights, linear, names, sizes, config.rank, folder)
          : packExperts(weights, linear, names, sizes, folder);
        tensors.push(...(await packed));
        linears.push(linear);
      }
    }
    const [extra] = found.keys();
    if (extra !== undefined) throw bad(folder, `tensors of ${extra}, which is no target`);
    const info: AdapterInfo = {
      mode,
      router: mode === 'routed' || gates !== null ? 'trained' : 'absent',
      experts,
      rank,
      alpha: rank === config.rank ? config.alpha : (config.alpha * rank) / config.rank,
      targets: adapted.map(([name]) => name),
      linears,
      gates: gateTable(gates, { mode, linears, tasks, experts, folder, routers }),
    };
    return { info, tensors };
  } finally {
    await weights.close();
  }
}

/** The linears that are adapted, in the order of the forward pass. */
function adaptedHosts(
  { targets }: AdapterConfig,
  model: ModelConfig,
  folder: string,
): readonly (readonly [LinearName, Host])[] {
  const hosts = hostsOf(model);
  const absent = targets?.find((name) => !hosts.has(name));
  if (absent !== undefined) {
    const path = join(folder, 'adapter_config.json');
    throw bad(path, `target_modules: a ${model.architecture} model has no ${absent}`);
  }
  return [...hosts].filter(([name]) => targets?.includes(name) ?? true);
}

/** Where the linears of a layer live: a tensor, its rows, and columns K. */
export interface Host {
  readonly tensor: string;
  readonly rows: [number, number];
  readonly inputs: number;
}

/** The linears that a model has, in the order of the forward pass: q, k and v are one, or three. */
export function hostsOf(model: ModelConfig): ReadonlyMap<LinearName, Host> {
  const { width, heads, kvHeads, headDim, mlpWidth } = model;
  const keys = heads * headDim; // where they begin, after the queries
  const values = keys + kvHeads * headDim;
  const end = values + kvHeads * headDim;
  const qkv = (from: number, to: number): Host => ({
    tensor: 'qkv',
    rows: [from, to],
    inputs: width,
  });
  const projections: [LinearName, Host][] =
    model.architecture === 'baichuan2'
      ? [['W_pack', qkv(0, end)]]
      : [
          ['q_proj', qkv(0, keys)],
          ['k_proj', qkv(keys, values)],
          ['v_proj', qkv(values, end)],
        ];
  return new Map([
    ...projections,
    ['o_proj', { tensor: 'attention_out', rows: [0, width], inputs: heads * headDim }],
    ['gate_proj', { tensor: 'gate_up', rows: [0, mlpWidth], inputs: width }],
    ['up_proj', { tensor: 'gate_up', rows: [mlpWidth, 2 * mlpWidth], inputs: width }],
    ['down_proj', { tensor: 'down', rows: [0, width], inputs: mlpWidth }],
  ]);
}

function adaptedLinear(
  layer: number,
  target: LinearName,
  { tensor, rows }: Host,
  mode: AdapterInfo['mode'],
): AdaptedLinear {
  const prefix = `adapter.layers.${layer}.${target}`;
  return {
    linear: linearName(layer, target),
    tensor: `layers.${layer}.${tensor}`,
    rows: [...rows],
    a: `${prefix}.a`,
    b: `${prefix}.b`,
    router: mode === 'routed' ? `${prefix}.router` : null,
  };
}

function bad(folder: string, what: string): Failure {
  return new Failure('BadCheckpoint', `${folder}: ${what}`);
}
