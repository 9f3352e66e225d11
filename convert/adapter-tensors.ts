import { Failure } from '../src/failure.ts';
import { floatToHalf } from '../src/format/dtype.ts';
import type { AdaptedLinear } from '../src/format/manifest.ts';
import { LINEARS, type LinearName } from './adapter-config.ts';
import { plainTensor, type PackageTensor } from './tensors.ts';
import type { Weights } from './weights.ts';

/** The tensors of an adapter's file: their names, and how they become those of a package. */

const FLOATS = ['F32', 'F16', 'BF16'] as const;
const MLP: readonly LinearName[] = ['gate_proj', 'up_proj', 'down_proj'];

/** Names of one adapted linear's tensors in the file; absent ones are null. */
export interface Found {
  a: string | null;
  b: string | null;
  router: string | null;
}

/** E experts of rank R for a linear [N, K]. */
export interface Sizes {
  readonly experts: number;
  readonly rank: number;
  readonly inputs: number; // K
  readonly outputs: number; // N
}

/**
 * As PEFT saves them ("base_model.model." before the model's own name, the adapter's name taken
 * out), as they are called while training (".default"), and with the ".weight" of a module.
 */
const NAME =
  /^(?:base_model\.model\.)?model\.layers\.(\d+)\.(?:mlp|self_attn)\.(\w+)\.(lora_moe_A|lora_moe_B|lora_route|w_noise|lora_A|lora_B)(?:\.default)?(?:\.weight)?$/;

/** w_noise is the size of the noise in training: nothing on the device needs it. */
const EXPERT_FIELDS: ReadonlyMap<string, keyof Found | null> = new Map([
  ['lora_moe_A', 'a' as const],
  ['lora_moe_B', 'b' as const],
  ['lora_route', 'router' as const],
  ['w_noise', null],
]);
const PLAIN_FIELDS: ReadonlyMap<string, keyof Found | null> = new Map([
  ['lora_A', 'a' as const],
  ['lora_B', 'b' as const],
]);

/** What the file holds for each linear, by the linear's name. @throws Failure BadCheckpoint */
export function findTensors(weights: Weights, folder: string, plain: boolean): Map<string, Found> {
  const fields = plain ? PLAIN_FIELDS : EXPERT_FIELDS;
  const found = new Map<string, Found>();
  for (const name of weights.names()) {
    const [, layer, linear, kind = ''] = NAME.exec(name) ?? [];
    const target = LINEARS.find((known) => known === linear);
    const field = fields.get(kind);
    if (layer === undefined || target === undefined || field === undefined) {
      throw bad(weights, folder, `tensor ${name} is not known in ${kindOf(plain)}`);
    }
    const key = linearName(Number(layer), target);
    const entry = found.get(key) ?? { a: null, b: null, router: null };
    found.set(key, entry);
    if (field === null) continue;
    if (entry[field] !== null) {
      throw bad(weights, folder, `tensors ${entry[field]} and ${name} are one`);
    }
    entry[field] = name;
  }
  return found;
}

/** 'layers.3.mlp.up_proj' */
export function linearName(layer: number, target: LinearName): string {
  const part = MLP.includes(target) ? 'mlp' : 'self_attn';
  return `layers.${layer}.${part}.${target}`;
}

/**
 * The linear's A [E*R, K], B [N, E*R] and, where routed, router [E-1, K], all f16.
 * The file has A [E, K, R] and B [E, R, N].
 */
export async function packExperts(
  weights: Weights,
  { linear, a, b, router }: AdaptedLinear,
  found: Found,
  { experts, rank, inputs, outputs }: Sizes,
  folder: string,
): Promise<PackageTensor[]> {
  if (found.a === null || found.b === null) {
    throw bad(weights, folder, `no lora_moe_A and lora_moe_B for ${linear}`);
  }
  weights.expect(found.a, [experts, inputs, rank], FLOATS);
  weights.expect(found.b, [experts, rank, outputs], FLOATS);
  const all = experts * rank;
  const fileA = await weights.all(found.a);
  const fileB = await weights.all(found.b);
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
    throw bad(weights, folder, `mode is routed, but ${linear} has no lora_route.weight`);
  }
  weights.expect(found.router, [experts - 1, inputs], FLOATS);
  const bits = Uint16Array.from(await weights.all(found.router), floatToHalf);
  return [...tensors, plainTensor(router, [experts - 1, inputs], bits)];
}

/**
 * The same of plain LoRA, whose file has A [r, K] and B [N, r]: its rank goes to E experts of rank
 * R, where E*R may be more than r; then what is left stays 0.
 * @param fileRank r
 */
export async function packPlain(
  weights: Weights,
  { linear, a, b }: AdaptedLinear,
  found: Found,
  { experts, rank, inputs, outputs }: Sizes,
  fileRank: number,
  folder: string,
): Promise<PackageTensor[]> {
  if (found.a === null || found.b === null) {
    throw bad(weights, folder, `no lora_A and lora_B for ${linear}`);
  }
  weights.expect(found.a, [fileRank, inputs], FLOATS);
  weights.expect(found.b, [outputs, fileRank], FLOATS);
  const all = experts * rank;
  const aBits = new Uint16Array(all * inputs);
  aBits.set(Uint16Array.from(await weights.all(found.a), floatToHalf));
  const fileB = await weights.all(found.b);
  const bBits = new Uint16Array(outputs * all);
  fileB.forEach((value, i) => {
    bBits[Math.floor(i / fileRank) * all + (i % fileRank)] = floatToHalf(value);
  });
  return [plainTensor(a, [all, inputs], aBits), plainTensor(b, [outputs, all], bBits)];
}

function kindOf(plain: boolean): string {
  return plain
    ? 'plain LoRA; experts need lora_nums in adapter_config.json'
    : 'a MoE-Adapter; plain LoRA has no lora_nums in adapter_config.json';
}

function bad(weights: Weights, folder: string, what: string): Failure {
  return new Failure('BadCheckpoint', `${folder}: ${weights.files.join(', ')}: ${what}`);
}
