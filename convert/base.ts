import { Failure } from '../src/failure.ts';
import { baseTensors } from '../src/format/meaning.ts';
import { GROUP_SIZE, type ModelConfig } from '../src/format/manifest.ts';
import type { Checkpoint } from './checkpoint.ts';
import { normaliseRows, quantizeQ4, quantizeQ8 } from './quantize.ts';
import { plainTensor, quantizedTensor, type PackageTensor, type RowPart } from './tensors.ts';
import type { Weights } from './weights.ts';

/** The base model's tensors, from the names of a Baichuan2 checkpoint to those of a package. */

const FLOATS = ['F32', 'F16', 'BF16'] as const;
const HEAD = 'lm_head.weight';
/** Old checkpoints store the table of rotary frequencies: it follows from theta. */
const IGNORED = /\.rotary_emb\.inv_freq$/;

/**
 * All tensors of the base in the order of the forward pass. Shapes and dtypes of everything that
 * will be read are checked here, before anything is written.
 * @throws Failure BadCheckpoint: a tensor is missing, unknown, or of another shape or dtype
 */
export async function packBase(checkpoint: Checkpoint): Promise<readonly PackageTensor[]> {
  const { config, weights, quantized } = checkpoint;
  const inWeights = new Set(weights.names());
  const known = new Set<string>();
  const knownQuantized = new Set<string>();
  const tensors: PackageTensor[] = [];
  for (const { name, dtype, shape } of baseTensors(config)) {
    const sources = sourceNames(name, config);
    const packed = quantized !== null && (dtype === 'q4' || dtype === 'q8');
    for (const [source, rows] of sources) {
      if (packed && !inWeights.has(source)) continue; // its integers are all that is needed
      weights.expect(source, dtype === 'f32' ? [rows] : [rows, shape[1] ?? 1], FLOATS);
      known.add(source);
    }
    if (dtype !== 'q4' && dtype !== 'q8') {
      tensors.push(plainTensor(name, shape, await weights.all(sources[0]?.[0] ?? name)));
      continue;
    }
    const columns = shape[1] ?? 1;
    const parts = sources.map(([source, rows]): RowPart => {
      if (quantized === null) return quantizingPart(weights, source, dtype, rows, columns);
      knownQuantized.add(`${source}.q`).add(`${source}.scale`);
      return packedPart(quantized, source, dtype, rows, columns);
    });
    tensors.push(quantizedTensor(name, dtype, columns, parts));
  }
  refuseOthers(weights, known, checkpoint.folder);
  if (quantized !== null) refuseOthers(quantized, knownQuantized, checkpoint.folder);
  return tensors;
}

/** The checkpoint's tensors, with their rows, that make one tensor of the package. */
function sourceNames(name: string, config: ModelConfig): readonly [string, number][] {
  const { vocab, width, mlpWidth } = config;
  if (name === 'embed') return [['model.embed_tokens.weight', vocab]];
  if (name === 'norm') return [['model.norm.weight', width]];
  if (name === 'head') return [[HEAD, vocab]];
  const [, layer, part] = name.split('.');
  const of = (suffix: string, rows: number): [string, number] => [
    `model.layers.${layer}.${suffix}.weight`,
    rows,
  ];
  const table: Readonly<Record<string, readonly [string, number][]>> = {
    attention_norm: [of('input_layernorm', width)],
    qkv: [of('self_attn.W_pack', 3 * width)],
    attention_out: [of('self_attn.o_proj', width)],
    mlp_norm: [of('post_attention_layernorm', width)],
    gate_up: [of('mlp.gate_proj', mlpWidth), of('mlp.up_proj', mlpWidth)],
    down: [of('mlp.down_proj', width)],
  };
  const found = table[part ?? ''];
  if (found === undefined) throw new Error(`no source for tensor ${name}`);
  return found;
}

/** Rows that our own quantizer makes from floats. */
function quantizingPart(
  weights: Weights,
  name: string,
  dtype: 'q4' | 'q8',
  rows: number,
  columns: number,
): RowPart {
  const quantize = dtype === 'q4' ? quantizeQ4 : quantizeQ8;
  const read = async (from: number, to: number) => {
    const values = await weights.rows(name, from, to);
    if (name === HEAD) normaliseRows(values, to - from, columns);
    return quantize(values, to - from, columns);
  };
  return { rows, read };
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
  const read = async (from: number, to: number) => {
    await quantized.rows(`${name}.scale`, from, to); // refuses infinities and NaN
    const bytes = await quantized.rowBytes(`${name}.scale`, from, to);
    return {
      q: await quantized.rowBytes(`${name}.q`, from, to),
      scale: new Uint16Array(bytes.buffer),
    };
  };
  return { rows, read };
}

/** A bias or a tensor of another architecture, left out, would silently change the numbers. */
function refuseOthers(weights: Weights, known: ReadonlySet<string>, folder: string): void {
  const unknown = weights.names().find((name) => !known.has(name) && !IGNORED.test(name));
  if (unknown === undefined) return;
  const files = weights.files.join(', ');
  const what = `tensor ${unknown} has no place in a Baichuan2 model`;
  throw new Failure('BadCheckpoint', `${folder}: ${files}: ${what}`);
}
