import type { MlcMetadata } from './mlc-library.ts';
import type { Shape } from './random-model.ts';

/** From what an MLC library says of its parameters to the shape of a model, and to bytes. */

/** A parameter with all its sizes known. */
export interface MlcTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: keyof typeof elementBytes;
  readonly bytes: number;
}

/** What a person may say of a shape. */
export type AskedShape = Partial<
  Pick<Shape, 'vocab' | 'width' | 'mlpWidth' | 'layers' | 'heads' | 'kvHeads'>
>;
export type BaseShape = Required<AskedShape>;

export interface MlcModel {
  readonly shape: BaseShape;
  readonly tensors: readonly MlcTensor[];
  /** The head is the embedding. */
  readonly tied: boolean;
  /** What the library does not say and where it was taken from instead. */
  readonly notes: readonly string[];
}

const elementBytes = { uint32: 4, float32: 4, float16: 2 } as const;

/** MLC's 4-bit formats in groups of 32: weights in whole words, a scale for every group. */
const FOUR_BITS = /^q4f(?:16|32)_[012]$/;
const PER_WORD = 8;
const WORDS_PER_GROUP = 4;

const families = 'Llama, Mistral, Qwen2, and what names its parameters as they do';

/**
 * The shape of the model that a library was compiled for.
 * @param asked what the command line says; it has to for sizes that the library leaves open
 * @throws Error for another architecture or format than is understood, for sizes that contradict
 * each other or `asked`, and for open ones that were not asked for
 */
export function modelOf(metadata: MlcMetadata, asked: AskedShape): MlcModel {
  const { quantization, model_type: type, kv_state_kind: state } = metadata;
  if (!FOUR_BITS.test(quantization)) {
    throw new Error(
      `quantization ${quantization}: our engine has 4-bit weights in groups of 32, so that only ` +
        'q4f16_0, _1 and _2 and q4f32_0, _1 and _2 are compared',
    );
  }
  if ((state ?? 'kv_cache') !== 'kv_cache') {
    throw new Error(`${type}: kv_state_kind ${state ?? ''}, only kv_cache is understood`);
  }
  for (const what of ['tensor_parallel_shards', 'pipeline_parallel_stages'] as const) {
    if (metadata[what] !== 1) throw new Error(`${what} ${metadata[what]}: a browser has one GPU`);
  }
  const tensors = tensorsOf(metadata, asked.vocab);
  const { tied, qkvRows, ...sizes } = matrixSizes(tensors, type);
  const { heads, kvHeads, notes } = headsOf(metadata, asked, sizes, qkvRows);
  const shape: BaseShape = { ...sizes, heads, kvHeads };
  for (const [key, value] of Object.entries(asked)) {
    const said = shape[key as keyof BaseShape];
    if (value !== said) throw new Error(`${key} ${value} was asked for, the library has ${said}`);
  }
  return { shape, tensors, tied, notes };
}

function tensorsOf({ params }: MlcMetadata, vocab: number | undefined): MlcTensor[] {
  const names = new Set<string>();
  return params.map(({ name, shape, dtype }) => {
    if (names.has(name)) throw new Error(`parameter ${name} stands there twice`);
    names.add(name);
    if (!isDtype(dtype)) throw new Error(`parameter ${name} is of the unknown type ${dtype}`);
    const sizes = shape.map((size) => {
      if (typeof size === 'number') return size;
      if (size !== 'vocab_size') throw new Error(`parameter ${name} has the unknown size ${size}`);
      if (vocab !== undefined) return vocab;
      throw new Error('the library leaves vocab_size open: say it with --vocab');
    });
    const bytes = sizes.reduce((product, size) => product * size, elementBytes[dtype]);
    if (bytes > 2 ** 32)
      throw new Error(`parameter ${name} has ${bytes} bytes, too many for a GPU`);
    return { name, shape: sizes, dtype, bytes };
  });
}

const isDtype = (dtype: string): dtype is MlcTensor['dtype'] => Object.hasOwn(elementBytes, dtype);

/** The sizes that matrices tell, which is all but the heads. */
function matrixSizes(tensors: readonly MlcTensor[], type: string) {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const place = /^(.+\.layers)\.\d+\./;
  const stem = tensors.map(({ name }) => place.exec(name)?.[1]).find((one) => one !== undefined);
  if (stem === undefined) throw new Error(`${type}: no parameter of a layer; known: ${families}`);
  const layers = tensors.reduce((most, { name }) => {
    const number = name.startsWith(`${stem}.`) ? Number.parseInt(name.slice(stem.length + 1)) : -1;
    return Math.max(most, number + 1);
  }, 0);
  const find = (names: readonly string[]): Matrix | undefined =>
    names.map((name) => matrixOf(byName, name)).find((one) => one !== null) ?? undefined;
  const need = (...names: readonly string[]): Matrix => {
    const found = find(names);
    if (found) return found;
    throw new Error(`${type}: no parameter ${names.join(' or ')}; known: ${families}`);
  };
  /** One matrix, or several below each other. */
  const fused = (at: string, whole: readonly string[], parts: readonly string[]): Matrix => {
    const names = whole.map((name) => `${at}.${name}`);
    const found = find(names);
    if (found) return found;
    const all = parts.map((part) => need(`${at}.${part}`, ...names));
    const [{ columns } = { columns: NaN }] = all;
    const rows = all.reduce((sum, one) => sum + one.rows, 0);
    return { rows, columns: all.every((one) => one.columns === columns) ? columns : NaN };
  };
  const embed = need(stem.replace(/layers$/, 'embed_tokens'));
  const { rows: vocab, columns: width } = embed;
  const head = find(['lm_head']);
  let [mlpWidth, qkvRows] = [0, 0];
  for (let i = 0; i < layers; i++) {
    const [attention, mlp] = [`${stem}.${i}.self_attn`, `${stem}.${i}.mlp`];
    const qkv = fused(attention, ['qkv_proj', 'c_attn'], ['q_proj', 'k_proj', 'v_proj']);
    const up = fused(mlp, ['gate_up_proj'], ['gate_proj', 'up_proj']);
    const down = need(`${mlp}.down_proj`);
    const out = need(`${attention}.o_proj`);
    if (i === 0) [mlpWidth, qkvRows] = [down.columns, qkv.rows];
    const fits =
      qkv.columns === width && up.columns === width && down.rows === width && out.rows === width;
    if (!fits || up.rows !== 2 * mlpWidth || down.columns !== mlpWidth || qkv.rows !== qkvRows) {
      throw new Error(`${stem}.${i} has matrices that do not go together, or not with layer 0`);
    }
    if (out.columns !== width) {
      throw new Error(
        `heads of ${out.columns} columns on a width of ${width}: ours are as wide as that`,
      );
    }
  }
  if (head && (head.rows !== vocab || head.columns !== width)) {
    throw new Error(`lm_head is ${head.rows} x ${head.columns}, the embedding ${vocab} x ${width}`);
  }
  return { vocab, width, mlpWidth, layers, qkvRows, tied: head === undefined };
}

interface Matrix {
  readonly rows: number; // outputs
  readonly columns: number; // inputs
}

/** A matrix, packed (by rows as in `_1` and `_2`, or by columns as in `_0`) or plain; null if not there. */
function matrixOf(tensors: ReadonlyMap<string, MlcTensor>, stem: string): Matrix | null {
  const plain = tensors.get(`${stem}.weight`);
  if (plain !== undefined) return { rows: plain.shape[0] ?? NaN, columns: plain.shape[1] ?? NaN };
  const packed = tensors.get(`${stem}.q_weight`);
  if (packed === undefined) return null;
  const [a = NaN, b = NaN] = packed.shape;
  const [c = NaN, d = NaN] = tensors.get(`${stem}.q_scale`)?.shape ?? [];
  if (packed.dtype === 'uint32' && a === c && b === WORDS_PER_GROUP * d) {
    return { rows: a, columns: b * PER_WORD };
  }
  if (packed.dtype === 'uint32' && b === d && a === WORDS_PER_GROUP * c) {
    return { rows: b, columns: a * PER_WORD };
  }
  throw new Error(
    `${stem}: weights of ${packed.dtype} [${a}, ${b}] and scales [${c}, ${d}] are no 4-bit ` +
      'numbers in groups of 32',
  );
}

function headsOf(
  { kv_cache: cache }: MlcMetadata,
  asked: AskedShape,
  { width, layers }: { readonly width: number; readonly layers: number },
  qkvRows: number,
) {
  const notes: string[] = [];
  if (cache === undefined) notes.push('the library does not tell its heads: taken from --heads');
  const heads = cache?.num_attention_heads ?? asked.heads;
  if (heads === undefined) {
    throw new Error('the library does not tell its heads (no kv_cache): say them with --heads');
  }
  const headDim = width / heads;
  // Rows of queries, keys and values: (H + 2 K) Dh, and H Dh is the width.
  const kvHeads = (qkvRows - width) / 2 / headDim;
  if (!Number.isInteger(headDim) || !Number.isInteger(kvHeads) || !(heads % kvHeads === 0)) {
    throw new Error(`${heads} heads do not go with ${qkvRows} rows of queries, keys and values`);
  }
  const said = [cache?.num_key_value_heads, cache?.head_dim, cache?.num_hidden_layers];
  [kvHeads, headDim, layers].forEach((value, i) => {
    const other = said[i];
    if (other === undefined || other === value) return;
    const what = ['num_key_value_heads', 'head_dim', 'num_hidden_layers'][i] ?? '';
    throw new Error(`kv_cache.${what} is ${other}, the parameters come to ${value}`);
  });
  return { heads, kvHeads, notes };
}
