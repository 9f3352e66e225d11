import { Failure } from '../src/failure.ts';
import { baseTensors } from '../src/format/meaning.ts';
import { GROUP_SIZE, type ModelConfig } from '../src/format/manifest.ts';
import { classOf, type RecipeClasses } from '../src/format/recipe.ts';
import type { Checkpoint } from './checkpoint.ts';
import { normaliseRows } from './quantize.ts';
import {
  CHUNK_VALUES,
  floatTensor,
  plainTensor,
  quantizedTensor,
  toHalves,
  type FloatPart,
  type PackageTensor,
  type RowPart,
} from './tensors.ts';
import { roundBytes, type RoundedBytes, type Way } from './wasm/quantize.ts';
import { LARGEST_BFLOAT, type Weights } from './weights.ts';

/** The base model's tensors, from the names of a checkpoint to those of a package. */

const FLOATS = ['F32', 'F16', 'BF16'] as const;
const EMBED = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';
/** Values of the embedding and of a head stored beside it that are compared at once. */
const COMPARED = 1 << 18;
/** Old checkpoints store the table of rotary frequencies: it follows from theta. */
const IGNORED = /\.rotary_emb\.inv_freq$/;

interface PackOptions {
  /** What takes reading all of a tensor has been looked at before. */
  readonly checked?: boolean;
  /** False rounds the floats even where training has left integers. */
  readonly integers?: boolean;
}

/**
 * All tensors of the base in the order of the forward pass. Shapes and dtypes of everything that
 * will be read are checked here, before anything is written.
 * @param classes how floats are stored; integers of training stay as they are
 * @throws Failure BadCheckpoint: a tensor is missing, unknown, or of another shape or dtype
 */
export async function packBase(
  checkpoint: Checkpoint,
  classes: RecipeClasses,
  { checked = false, integers = true }: PackOptions = {},
): Promise<readonly PackageTensor[]> {
  const { config, weights } = checkpoint;
  const quantized = integers ? checkpoint.quantized : null;
  const inWeights = new Set(weights.names());
  const known = new Set<string>();
  const knownQuantized = new Set<string>();
  const tensors: PackageTensor[] = [];
  for (const { name, dtype, shape } of baseTensors(config)) {
    const sources = sourceNames(name, config);
    const columns = shape[1];
    const packed = quantized !== null && (dtype === 'q4' || dtype === 'q8');
    for (const [source, rows] of sources) {
      if (packed && !inWeights.has(source)) continue; // its integers are all that is needed
      weights.expect(source, columns === undefined ? [rows] : [rows, columns], FLOATS);
      known.add(source);
    }
    if (columns === undefined) {
      const parts = await Promise.all(sources.map(([source]) => weights.all(source)));
      const values = Float32Array.from(parts.flatMap((part) => [...part]));
      const half = quantized === null && classes.vectors.dtype === 'f16';
      tensors.push(plainTensor(name, shape, half ? toHalves(values) : values));
    } else if (packed) {
      const parts = sources.map(([source, rows]) => {
        knownQuantized.add(`${source}.q`).add(`${source}.scale`);
        return packedPart(quantized, source, dtype, rows, columns);
      });
      tensors.push(quantizedTensor(name, dtype, columns, parts));
    } else {
      const floats = sources.map(([source, rows]): FloatPart => {
        const unit = source === HEAD && config.architecture === 'baichuan2'; // NormHead
        return floatPart(weights, source, unit, rows, columns);
      });
      tensors.push(storedTensor(name, classes[classOf(name)], columns, floats));
    }
  }
  if (config.tiedHead && inWeights.has(HEAD) && inWeights.has(EMBED)) {
    if (!checked) await checkTied(checkpoint);
    known.add(HEAD);
  }
  refuseOthers(weights, known, checkpoint);
  if (quantized !== null) refuseOthers(quantized, knownQuantized, checkpoint);
  return tensors;
}

/** The checkpoint's tensors, with their rows, that make one tensor of the package. */
function sourceNames(name: string, config: ModelConfig): readonly [string, number][] {
  const { vocab, width, heads, kvHeads, headDim, mlpWidth } = config;
  if (name === 'embed') return [[EMBED, vocab]];
  if (name === 'norm') return [['model.norm.weight', width]];
  if (name === 'head') return [[HEAD, vocab]];
  const [, layer, part] = name.split('.');
  const of = (suffix: string, rows: number, kind = 'weight'): [string, number] => [
    `model.layers.${layer}.${suffix}.${kind}`,
    rows,
  ];
  const [queries, keys] = [heads * headDim, kvHeads * headDim];
  const apart = (kind: string): [string, number][] => [
    of('self_attn.q_proj', queries, kind),
    of('self_attn.k_proj', keys, kind),
    of('self_attn.v_proj', keys, kind),
  ];
  const fused = config.architecture === 'baichuan2';
  const table: Readonly<Record<string, readonly [string, number][]>> = {
    attention_norm: [of('input_layernorm', width)],
    qkv: fused ? [of('self_attn.W_pack', queries + 2 * keys)] : apart('weight'),
    qkv_bias: apart('bias'),
    qk_norm: [of('self_attn.q_norm', headDim), of('self_attn.k_norm', headDim)],
    attention_out: [of('self_attn.o_proj', width)],
    mlp_norm: [of('post_attention_layernorm', width)],
    gate_up: [of('mlp.gate_proj', mlpWidth), of('mlp.up_proj', mlpWidth)],
    down: [of('mlp.down_proj', width)],
  };
  const found = table[part ?? ''];
  if (found === undefined) throw new Error(`no source for tensor ${name}`);
  return found;
}

/** Rows of floats as a checkpoint has them. @param unit rows get unit length first */
function floatPart(
  weights: Weights,
  name: string,
  unit: boolean,
  rows: number,
  columns: number,
): FloatPart {
  const read = async (from: number, to: number) => {
    const values = await weights.rows(name, from, to);
    if (unit) normaliseRows(values, to - from, columns);
    return values;
  };
  return { rows, read, bfloats: unit ? null : weights.bfloatRows(name) };
}

/** A matrix as its class is stored. */
function storedTensor(
  name: string,
  how: RecipeClasses[keyof RecipeClasses],
  columns: number,
  floats: readonly FloatPart[],
): PackageTensor {
  if (!('scales' in how)) return floatTensor(name, how.dtype, columns, floats);
  const way: Way = how.dtype === 'q8' ? 'eight' : how.scales;
  const parts = floats.map((part) => roundingPart(part, way, columns));
  return quantizedTensor(name, how.dtype, columns, parts);
}

/** Rows that are rounded some at a time, each in the same memory as those before. */
function roundingPart(part: FloatPart, way: Way, columns: number): RowPart {
  const step = Math.max(1, Math.floor(CHUNK_VALUES / columns));
  const qBytes = way === 'eight' ? columns : columns / 2;
  const scaleBytes = (2 * columns) / GROUP_SIZE;
  const write = async (from: number, to: number, q: Uint8Array, scale: Uint8Array) => {
    const sums = { squares: 0, error: 0 };
    const held =
      part.bfloats === null ? null : new Uint8Array(2 * columns * Math.min(step, to - from));
    for (let row = from; row < to; row += step) {
      const end = Math.min(to, row + step);
      const places = [
        q.subarray((row - from) * qBytes, (end - from) * qBytes),
        scale.subarray((row - from) * scaleBytes, (end - from) * scaleBytes),
      ] as const;
      let done: RoundedBytes | null = null;
      if (part.bfloats !== null && held !== null) {
        const bytes = held.subarray(0, 2 * columns * (end - row));
        await part.bfloats(row, bytes);
        const found = roundBytes(way, 'bf16', bytes, ...places);
        if (found.largest >>> 16 <= LARGEST_BFLOAT) done = found; // else `read` says what is wrong
      }
      if (done === null) {
        const { buffer, byteOffset, byteLength } = await part.read(row, end);
        const bytes = new Uint8Array(buffer, byteOffset, byteLength);
        done = roundBytes(way, 'f32', bytes, ...places);
      }
      sums.squares += done.squares;
      sums.error += done.error;
    }
    return sums;
  };
  return { rows: part.rows, write };
}

/** A head that config.json ties and the file stores all the same: it has to be the embedding. */
async function checkTied({ weights, config, folder }: Checkpoint): Promise<void> {
  const { vocab, width } = config;
  weights.expect(HEAD, [vocab, width], FLOATS);
  const step = Math.ceil(COMPARED / width);
  for (let from = 0; from < vocab; from += step) {
    const to = Math.min(vocab, from + step);
    const embed = await weights.rows(EMBED, from, to);
    const head = await weights.rows(HEAD, from, to);
    if (head.every((value, i) => value === embed[i])) continue;
    const what = `tensor ${HEAD} differs from ${EMBED}, though config.json ties them`;
    throw new Failure('BadCheckpoint', `${folder}: ${what}`);
  }
}

/** Rows that training has quantized: their bytes go into the package as they are. */
function packedPart(
  quantized: Weights,
  name: string,
  dtype: 'q4' | 'q8',
  rows: number,
  columns: number,
): RowPart {
  quantized.expect(`${name}.q`, [rows, dtype === 'q4' ? columns / 2 : columns], ['U8']);
  quantized.expect(`${name}.scale`, [rows, columns / GROUP_SIZE], ['F16']);
  const write = async (from: number, to: number, q: Uint8Array, scale: Uint8Array) => {
    await quantized.rows(`${name}.scale`, from, to); // refuses infinities and NaN
    scale.set(await quantized.rowBytes(`${name}.scale`, from, to));
    q.set(await quantized.rowBytes(`${name}.q`, from, to));
    return null;
  };
  return { rows, write };
}

/** A bias or a tensor of another architecture, left out, would silently change the numbers. */
function refuseOthers(
  weights: Weights,
  known: ReadonlySet<string>,
  { folder, config }: Checkpoint,
): void {
  const unknown = weights.names().find((name) => !known.has(name) && !IGNORED.test(name));
  if (unknown === undefined) return;
  const files = weights.files.join(', ');
  const what = `tensor ${unknown} has no place in a ${config.architecture} model`;
  throw new Failure('BadCheckpoint', `${folder}: ${files}: ${what}`);
}
