import { join } from 'node:path';
import * as v from 'valibot';
import { Failure } from '../src/failure.ts';
import { floatToHalf } from '../src/format/dtype.ts';
import type { AdaptedLinear, AdapterInfo, ModelConfig } from '../src/format/manifest.ts';
import { check, readJson } from './files.ts';
import { gateTable, readGates } from './gates.ts';
import { plainTensor, type PackageTensor } from './tensors.ts';
import { Weights } from './weights.ts';

/**
 * The MoE-Adapter of a folder: as the paper's code saves it (experts only, its router is lost) or
 * as our training does (router and gates per task beside the experts).
 */

const FLOATS = ['F32', 'F16', 'BF16'] as const;
const LINEARS = [
  'W_pack',
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
] as const;
type LinearName = (typeof LINEARS)[number];
const MLP: readonly LinearName[] = ['gate_proj', 'up_proj', 'down_proj'];

const size = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const off = v.optional(v.literal(false));
const empty = v.optional(v.strictObject({}));

/** Fields that would change the numbers may only say that they do not. Others are not read. */
const configSchema = v.looseObject({
  peft_type: v.literal('LORA'),
  r: size,
  lora_alpha: v.pipe(v.number(), v.finite()),
  lora_nums: v.pipe(size, v.minValue(2)),
  target_modules: v.pipe(v.array(v.picklist(LINEARS)), v.minLength(1)),
  mode: v.optional(v.picklist(['merged', 'routed'])),
  bias: v.optional(v.literal('none')),
  use_rslora: off,
  use_dora: off,
  fan_in_fan_out: off,
  alpha_pattern: empty,
  rank_pattern: empty,
  modules_to_save: v.nullish(v.null()),
});

export interface PackedAdapter {
  readonly info: AdapterInfo;
  readonly tensors: readonly PackageTensor[];
}

interface Sizes {
  readonly experts: number; // E
  readonly rank: number; // R
  readonly inputs: number; // K
  readonly outputs: number; // N
}

/** Names of one adapted linear's tensors in the file; absent ones are null. */
interface Found {
  a: string | null;
  b: string | null;
  router: string | null;
}

/**
 * Reads an adapter and checks it against the model and its tasks.
 * @throws Failure NotFound, BadCheckpoint
 */
export async function packAdapter(
  folder: string,
  model: ModelConfig,
  tasks: readonly string[],
): Promise<PackedAdapter> {
  const configPath = join(folder, 'adapter_config.json');
  const hint = 'is this an adapter folder?';
  const config = check(
    configSchema,
    await readJson(folder, 'adapter_config.json', hint),
    configPath,
  );
  const weights = await Weights.open(folder, 'adapter_model');
  try {
    const found = findTensors(weights, folder);
    const hosts = hostsOf(model);
    const absent = config.target_modules.find((name) => !hosts.has(name));
    if (absent !== undefined) {
      throw bad(configPath, `target_modules: a ${model.architecture} model has no ${absent}`);
    }
    const adapted = [...hosts].filter(([name]) => config.target_modules.includes(name));
    const routers = [...found.values()].filter(({ router }) => router !== null).length;
    const gates = await readGates(folder);
    const mode = config.mode ?? (gates === null && routers > 0 ? 'routed' : 'merged');
    const linears: AdaptedLinear[] = [];
    const tensors: PackageTensor[] = [];
    for (let layer = 0; layer < model.layers; layer++) {
      for (const [target, host] of adapted) {
        const linear = adaptedLinear(layer, target, host, mode);
        const names = found.get(linear.linear) ?? { a: null, b: null, router: null };
        found.delete(linear.linear);
        const sizes = {
          experts: config.lora_nums,
          rank: config.r,
          inputs: host.inputs,
          outputs: host.rows[1] - host.rows[0],
        };
        tensors.push(...(await packLinear(weights, linear, names, sizes, folder)));
        linears.push(linear);
      }
    }
    const [extra] = found.keys();
    if (extra !== undefined) throw bad(folder, `tensors of ${extra}, which is no target`);
    const info: AdapterInfo = {
      mode,
      router: mode === 'routed' || gates !== null ? 'trained' : 'absent',
      experts: config.lora_nums,
      rank: config.r,
      alpha: config.lora_alpha,
      targets: adapted.map(([name]) => name),
      linears,
      gates: gateTable(gates, { mode, linears, tasks, experts: config.lora_nums, folder, routers }),
    };
    return { info, tensors };
  } finally {
    await weights.close();
  }
}

const NAME =
  /^base_model\.model\.model\.layers\.(\d+)\.(?:mlp|self_attn)\.(\w+)\.(lora_moe_A|lora_moe_B|lora_route|w_noise)(?:\.default)?(?:\.weight)?$/;

/** w_noise is the size of the noise in training: nothing on the device needs it. */
const FIELDS: Readonly<Record<string, keyof Found | null>> = {
  lora_moe_A: 'a',
  lora_moe_B: 'b',
  lora_route: 'router',
  w_noise: null,
};

/** What the file holds for each linear, by the linear's name. */
function findTensors(weights: Weights, folder: string): Map<string, Found> {
  const found = new Map<string, Found>();
  for (const name of weights.names()) {
    const [, layer, linear, kind] = NAME.exec(name) ?? [];
    const target = LINEARS.find((known) => known === linear);
    if (layer === undefined || target === undefined) {
      throw bad(folder, `adapter_model.safetensors: tensor ${name} is not known`);
    }
    const key = linearName(Number(layer), target);
    const entry = found.get(key) ?? { a: null, b: null, router: null };
    found.set(key, entry);
    const field = FIELDS[kind ?? ''] ?? null;
    if (field === null) continue;
    if (entry[field] !== null) throw bad(folder, `tensors ${entry[field]} and ${name} are one`);
    entry[field] = name;
  }
  return found;
}

/** The linear's A [E*r, K], B [N, E*r] and, where routed, router [E-1, K], all f16. */
async function packLinear(
  weights: Weights,
  { linear, a, b, router }: AdaptedLinear,
  found: Found,
  { experts, rank, inputs, outputs }: Sizes,
  folder: string,
): Promise<PackageTensor[]> {
  if (found.a === null || found.b === null) {
    throw bad(folder, `adapter_model.safetensors: no lora_moe_A and lora_moe_B for ${linear}`);
  }
  weights.expect(found.a, [experts, inputs, rank], FLOATS);
  weights.expect(found.b, [experts, rank, outputs], FLOATS);
  const all = experts * rank;
  const fileA = await weights.all(found.a); // [E, K, r]
  const fileB = await weights.all(found.b); // [E, r, N]
  const aBits = new Uint16Array(all * inputs);
  const bBits = new Uint16Array(outputs * all);
  for (let row = 0; row < all; row++) {
    const expert = Math.floor(row / rank);
    const j = row % rank;
    for (let k = 0; k < inputs; k++) {
      aBits[row * inputs + k] = floatToHalf(fileA[(expert * inputs + k) * rank + j] ?? 0);
    }
    for (let n = 0; n < outputs; n++) {
      bBits[n * all + row] = floatToHalf(fileB[row * outputs + n] ?? 0);
    }
  }
  const tensors = [plainTensor(a, [all, inputs], aBits), plainTensor(b, [outputs, all], bBits)];
  if (router === null) return tensors;
  if (found.router === null) {
    const what = `mode is routed, but ${linear} has no lora_route.weight`;
    throw bad(folder, `adapter_model.safetensors: ${what}`);
  }
  weights.expect(found.router, [experts - 1, inputs], FLOATS);
  const bits = Uint16Array.from(await weights.all(found.router), floatToHalf);
  return [...tensors, plainTensor(router, [experts - 1, inputs], bits)];
}

function linearName(layer: number, target: LinearName): string {
  const part = MLP.includes(target) ? 'mlp' : 'self_attn';
  return `layers.${layer}.${part}.${target}`;
}

/** Where the linears of a layer live: a tensor, its rows, and columns K. */
interface Host {
  readonly tensor: string;
  readonly rows: [number, number];
  readonly inputs: number;
}

/** The linears that a model has, in the order of the forward pass: q, k and v are one, or three. */
function hostsOf(model: ModelConfig): ReadonlyMap<LinearName, Host> {
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
