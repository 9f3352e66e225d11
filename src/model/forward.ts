import { createAttention } from '../gpu/kernels/attention.ts';
import { createAttentionCombine } from '../gpu/kernels/attention_combine.ts';
import { createAttentionDecode } from '../gpu/kernels/attention_decode.ts';
import { createEmbedQ8 } from '../gpu/kernels/embed_q8.ts';
import { createKvWrite } from '../gpu/kernels/kv_write.ts';
import { createMatvecQ8 } from '../gpu/kernels/matvec_q8.ts';
import { createRmsNorm } from '../gpu/kernels/rms_norm.ts';
import { createRope } from '../gpu/kernels/rope.ts';
import { createSwiglu } from '../gpu/kernels/swiglu.ts';
import type { Gpu, Step } from '../gpu/gpu.ts';
import type { Adapter } from './adapter.ts';
import type { Sizes } from './config.ts';
import { LinearBuilder, type Linear } from './linear.ts';
import type { LayerCache, State } from './state.ts';
import type { LayerWeights, Matrix, MatrixPart, Weights } from './weights.ts';

/** The steps of one kind of pass through the layers. */
type Layers = readonly (readonly Step[])[];

/** What a forward pass is made of. */
export interface ForwardParts {
  readonly gpu: Gpu;
  readonly sizes: Sizes;
  readonly weights: Weights;
  readonly adapter: Adapter | null;
  readonly state: State;
}

/** Tokens of a pass: one; some, which matrices walk by ones or twos; or many, taken in tiles. */
type Length = 'one' | 'some' | 'many';

/** How a pass is made: the same for all its layers. */
interface Kind {
  readonly length: Length;
  readonly routed: boolean; // gates from the router instead of from the task
}

/** Every step of the model, its buffers bound once: a pass only picks lists and dispatches them. */
export class Forward {
  /** Rows of the table and the step that gathers them. */
  readonly #embed: readonly { readonly part: MatrixPart; readonly steps: readonly Step[] }[];
  readonly #layers: ReadonlyMap<string, Layers>;
  readonly #matmulFrom: number;
  /** The last norm and the logits of one row of x. */
  readonly head: readonly Step[];

  constructor(
    embed: readonly { part: MatrixPart; steps: readonly Step[] }[],
    layers: ReadonlyMap<string, Layers>,
    matmulFrom: number,
    head: readonly Step[],
  ) {
    this.#embed = embed;
    this.#layers = layers;
    this.#matmulFrom = matmulFrom;
    this.head = head;
  }

  /** The steps that fetch these tokens: one for every part of the table that holds some of them. */
  embed(tokens: readonly number[]): readonly (readonly Step[])[] {
    const holds = ({ from, rows }: MatrixPart): boolean =>
      tokens.some((token) => token >= from && token < from + rows);
    return this.#embed.filter(({ part }) => holds(part)).map(({ steps }) => steps);
  }

  /** The steps of every layer for a pass of so many tokens. */
  layers(tokens: number, routed: boolean): Layers {
    const length = tokens === 1 ? 'one' : tokens < this.#matmulFrom ? 'some' : 'many';
    return this.#layers.get(key({ length, routed })) ?? [];
  }
}

function key({ length, routed }: Kind): string {
  return `${length} ${routed ? 'routed' : 'merged'}`;
}

/** Compiles the kernels and binds every step. */
export async function createForward(parts: ForwardParts): Promise<Forward> {
  const { gpu, weights, adapter, sizes } = parts;
  const { chunk, matmulFrom } = gpu.tuning;
  const lengths: Length[] = ['one'];
  if (chunk > 1 && matmulFrom > 2) lengths.push('some');
  if (chunk > 1 && matmulFrom <= chunk) lengths.push('many');
  const modes = adapter?.info.mode === 'routed' ? [false, true] : [false];
  // Everything is asked for at once: the driver compiles on as many threads as it likes.
  const kinds = lengths.flatMap((length) => modes.map((routed): Kind => ({ length, routed })));
  const layers = kinds.map(async (kind) => {
    const builder = new LayerBuilder(parts, kind);
    const all = Array.from({ length: sizes.layers }, (_, i) => builder.layer(i));
    return [key(kind), await Promise.all(all)] as const;
  });
  const embed = weights.embed.parts.map(async (part) => ({
    part,
    steps: [await embedStep(parts, part)],
  }));
  const made = [Promise.all(embed), Promise.all(layers), headSteps(parts)] as const;
  const [embedding, layerSteps, head] = await Promise.all(made);
  return new Forward(embedding, new Map(layerSteps), matmulFrom, head);
}

async function embedStep({ gpu, sizes, state }: ForwardParts, part: MatrixPart): Promise<Step> {
  const { from, rows, buffer: table } = part;
  const bind = await createEmbedQ8(gpu, { width: sizes.width, rows, from });
  return bind({ tokens: state.tokens, table, x: state.x });
}

async function headSteps({ gpu, sizes, weights, state }: ForwardParts): Promise<Step[]> {
  const { width, normEps: eps } = sizes;
  const { x, normed, logits, headParams: params } = state;
  const norm = await createRmsNorm(gpu, { width, eps });
  const { rows: outputs, columns, parts } = weights.head;
  const rows = parts.map(async ({ buffer, from, rows }) => {
    const bind = await createMatvecQ8(gpu, { columns, rows, from, outputs });
    return bind({ weights: buffer, x: normed, y: logits });
  });
  return [norm({ params, x, weight: weights.norm, y: normed }), ...(await Promise.all(rows))];
}

/** Makes the steps of a layer, from top to bottom as they run. */
class LayerBuilder {
  readonly #parts: ForwardParts;
  readonly #kind: Kind;
  readonly #linears: LinearBuilder;

  constructor(parts: ForwardParts, kind: Kind) {
    this.#parts = parts;
    this.#kind = kind;
    this.#linears = new LinearBuilder(parts, {
      tiles: kind.length === 'many',
      several: kind.length === 'some',
      routed: kind.routed,
    });
  }

  async layer(i: number): Promise<Step[]> {
    const { weights, state } = this.#parts;
    const layer = weights.layers[i];
    const cache = state.layers[i];
    if (layer === undefined || cache === undefined) throw new RangeError(`there is no layer ${i}`);
    const { qkv, attended, x, hidden } = state;
    const linear = (tensor: string, matrix: Matrix) => ({
      tensor: `layers.${i}.${tensor}`,
      matrix,
    });
    const steps = await Promise.all([
      this.#normed(layer.attentionNorm, linear('qkv', layer.qkv), qkv),
      this.#kind.length === 'one' ? this.#attendOne(layer, cache) : this.#attend(layer, cache),
      this.#linears.steps({
        ...linear('attention_out', layer.attentionOut),
        x: attended,
        y: x,
        add: true,
      }),
      this.#gateUp(layer.mlpNorm, linear('gate_up', layer.gateUp)),
      this.#linears.steps({ ...linear('down', layer.down), x: hidden, y: x, add: true }),
    ]);
    return steps.flat();
  }

  /** y = W norm(x): in one kernel for one token; the router wants the normed values themselves. */
  async #normed(
    weight: GPUBuffer,
    linear: Pick<Linear, 'tensor' | 'matrix'>,
    y: GPUBuffer,
    silu = false,
  ): Promise<Step[]> {
    const { gpu, sizes, state } = this.#parts;
    const { x, normed } = state;
    const eps = sizes.normEps;
    if (this.#kind.length === 'one' && !this.#kind.routed) {
      return this.#linears.steps({ ...linear, x, y, norm: { weight, eps }, silu });
    }
    const bind = await createRmsNorm(gpu, { width: sizes.width, eps });
    const step = bind({ params: state.params, x, weight, y: normed });
    return [step, ...(await this.#linears.steps({ ...linear, x: normed, y, silu }))];
  }

  /** hidden = silu(gate) * up, together with their product where one dispatch makes all its rows. */
  async #gateUp(weight: GPUBuffer, linear: Pick<Linear, 'tensor' | 'matrix'>): Promise<Step[]> {
    const { gpu, sizes, state } = this.#parts;
    const { gateUp, hidden } = state;
    if (this.#kind.length !== 'many' && linear.matrix.parts.length === 1) {
      return this.#normed(weight, linear, hidden, true);
    }
    const bind = await createSwiglu(gpu, sizes.mlpWidth);
    return [...(await this.#normed(weight, linear, gateUp)), bind({ gateUp, y: hidden })];
  }

  /** One token: bias, norm, rotation and cache are in the kernel of attention. */
  async #attendOne({ qkvBias: bias, qkNorm: weight }: LayerWeights, cache: LayerCache) {
    const { gpu, sizes, state } = this.#parts;
    const { params, qkv, angles, slopes, attended } = state;
    const { heads, kvHeads, headDim } = sizes;
    const slices = gpu.tuning.attentionSlices;
    const normEps = sizes.qkNorm ? sizes.normEps : null;
    const { scales } = state.cache;
    const shape = { heads, kvHeads, headDim, normEps, rotary: angles !== null, slices, scales };
    const bind = await createAttentionDecode(gpu, shape);
    const y = slices > 1 ? state.slices : attended;
    const step = bind({ params, qkv, bias, weight, angles, slopes, ...cache, y });
    if (slices === 1) return [step];
    const combine = await createAttentionCombine(gpu, { heads, headDim, slices });
    return [step, combine({ params, slices: state.slices, y: attended })];
  }

  async #attend({ qkvBias: bias, qkNorm: weight }: LayerWeights, cache: LayerCache) {
    const { gpu, sizes, state } = this.#parts;
    const { params, qkv, angles, slopes, attended } = state;
    const { queryWidth: queries, kvWidth: width } = sizes;
    const steps: Step[] = [];
    if (angles !== null) {
      const normEps = sizes.qkNorm ? sizes.normEps : null;
      const bind = await createRope(gpu, { ...sizes, normEps });
      steps.push(bind({ params, angles, bias, weight, x: qkv }));
    }
    const cached = { ...sizes, scales: state.cache.scales };
    const write = await createKvWrite(gpu, { ...cached, queries, width });
    const attend = await createAttention(gpu, cached);
    return [
      ...steps,
      write({ params, qkv, bias, ...cache }),
      attend({ params, qkv, slopes, ...cache, y: attended }),
    ];
  }
}
