import { createAdapterDown } from '../gpu/kernels/adapter_down.ts';
import { createAdapterRoute } from '../gpu/kernels/adapter_route.ts';
import { createAdapterUp } from '../gpu/kernels/adapter_up.ts';
import { createAttention } from '../gpu/kernels/attention.ts';
import { createEmbedQ8 } from '../gpu/kernels/embed_q8.ts';
import { createKvWrite } from '../gpu/kernels/kv_write.ts';
import { createMatmulQ4 } from '../gpu/kernels/matmul_q4.ts';
import { createMatvecQ4 } from '../gpu/kernels/matvec_q4.ts';
import { createMatvecQ8 } from '../gpu/kernels/matvec_q8.ts';
import { createRmsNorm } from '../gpu/kernels/rms_norm.ts';
import { createRope } from '../gpu/kernels/rope.ts';
import { createSwiglu } from '../gpu/kernels/swiglu.ts';
import type { Gpu, Step } from '../gpu/gpu.ts';
import type { Adapter } from './adapter.ts';
import type { Sizes } from './config.ts';
import type { State } from './state.ts';
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

/** How a pass is made: the same for all its layers. */
interface Kind {
  readonly matmul: boolean; // matrices by tiles of tokens instead of token by token
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
    return this.#layers.get(key({ matmul: tokens >= this.#matmulFrom, routed })) ?? [];
  }
}

function key({ matmul, routed }: Kind): string {
  return `${matmul ? 'matmul' : 'matvec'} ${routed ? 'routed' : 'merged'}`;
}

/** Compiles the kernels and binds every step. */
export async function createForward(parts: ForwardParts): Promise<Forward> {
  const { gpu, weights, adapter, sizes } = parts;
  const matmuls = gpu.tuning.matmulFrom <= gpu.tuning.chunk ? [false, true] : [false];
  const modes = adapter?.info.mode === 'routed' ? [false, true] : [false];
  const layers = new Map<string, Layers>();
  for (const matmul of matmuls) {
    for (const routed of modes) {
      const builder = new LayerBuilder(parts, { matmul, routed });
      const all = Array.from({ length: sizes.layers }, (_, i) => builder.layer(i));
      layers.set(key({ matmul, routed }), await Promise.all(all));
    }
  }
  const embed = weights.embed.parts.map(async (part) => ({
    part,
    steps: [await embedStep(parts, part)],
  }));
  const head = await headSteps(parts);
  return new Forward(await Promise.all(embed), layers, gpu.tuning.matmulFrom, head);
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

/** Builds the steps of a layer, from top to bottom as they run. */
class LayerBuilder {
  readonly #parts: ForwardParts;
  readonly #kind: Kind;

  constructor(parts: ForwardParts, kind: Kind) {
    this.#parts = parts;
    this.#kind = kind;
  }

  async layer(i: number): Promise<Step[]> {
    const { weights, state, sizes, gpu } = this.#parts;
    const layer = weights.layers[i];
    const cache = state.layers[i];
    if (layer === undefined || cache === undefined) throw new RangeError(`there is no layer ${i}`);
    const { params, slopes, x, normed, qkv, attended, gateUp, hidden } = state;
    const { heads, kvHeads, headDim, queryWidth, kvWidth, mlpWidth } = sizes;
    const { qkvBias: bias } = layer;
    const name = (tensor: string): string => `layers.${i}.${tensor}`;
    const kv = { queries: queryWidth, width: kvWidth };

    const steps = await Promise.all([
      this.#norm(layer.attentionNorm),
      this.#linear(name('qkv'), layer.qkv, normed, qkv),
      this.#rope(layer),
      createKvWrite(gpu, kv).then((bind) => bind({ params, qkv, bias, ...cache })),
      createAttention(gpu, { heads, kvHeads, headDim }).then((bind) =>
        bind({ params, qkv, slopes, ...cache, y: attended }),
      ),
      this.#linear(name('attention_out'), layer.attentionOut, attended, x, true),

      this.#norm(layer.mlpNorm),
      this.#linear(name('gate_up'), layer.gateUp, normed, gateUp),
      createSwiglu(gpu, mlpWidth).then((bind) => bind({ gateUp, y: hidden })),
      this.#linear(name('down'), layer.down, hidden, x, true),
    ]);
    return steps.flat();
  }

  async #norm(weight: GPUBuffer): Promise<Step> {
    const { gpu, sizes, state } = this.#parts;
    const bind = await createRmsNorm(gpu, { width: sizes.width, eps: sizes.normEps });
    return bind({ params: state.params, x: state.x, weight, y: state.normed });
  }

  /** Bias, norm and rotation of queries and keys; nothing where positions are biases on scores. */
  async #rope({ qkvBias: bias, qkNorm: weight }: LayerWeights): Promise<Step[]> {
    const { gpu, sizes, state } = this.#parts;
    const { params, angles, qkv: x } = state;
    if (angles === null) return [];
    const normEps = sizes.qkNorm ? sizes.normEps : null;
    const bind = await createRope(gpu, { ...sizes, normEps });
    return [bind({ params, angles, bias, weight, x })];
  }

  /** y (+)= W x + B (gates * A x), with the adapter where this tensor has one. */
  async #linear(
    tensor: string,
    matrix: Matrix,
    x: GPUBuffer,
    y: GPUBuffer,
    add = false,
  ): Promise<Step[]> {
    const base = await this.#base(matrix, x, y, add);
    return [...base, ...(await this.#adapted(tensor, matrix.rows, x, y))];
  }

  async #base({ parts, columns, rows: outputs }: Matrix, x: GPUBuffer, y: GPUBuffer, add: boolean) {
    const { gpu, state } = this.#parts;
    const steps = parts.map(async ({ buffer: weights, from, rows }) => {
      const shape = { columns, rows, from, outputs, add };
      if (this.#kind.matmul) {
        const bind = await createMatmulQ4(gpu, shape);
        return bind({ params: state.params, weights, x, y });
      }
      const bind = await createMatvecQ4(gpu, shape);
      return bind({ weights, x, y });
    });
    return Promise.all(steps);
  }

  async #adapted(tensor: string, outputs: number, x: GPUBuffer, y: GPUBuffer): Promise<Step[]> {
    const { gpu, adapter, state } = this.#parts;
    const site = adapter?.sites.get(tensor);
    if (!adapter || !site) return [];
    const { middle: z } = state;
    const { padded, scale } = adapter;
    const { experts, rank } = adapter.info;
    const { columns } = site;
    const linears = site.linears.length;
    const steps: Step[] = [];
    let gates: GPUBuffer | GPUBufferBinding = site.gates;
    const routes = this.#kind.routed ? state.routes.get(tensor) : undefined;
    const routed = routes !== undefined && site.router !== null;
    if (routed) {
      const bind = await createAdapterRoute(gpu, { columns, linears, experts, scale });
      steps.push(bind({ router: site.router, x, gates: routes }));
      gates = routes;
    }
    const down = { columns, linears, experts, rank, padded, routed };
    steps.push((await createAdapterDown(gpu, down))({ a: site.a, x, gates, z }));
    for (const { b, ...run } of site.runs) {
      const bind = await createAdapterUp(gpu, { padded, linears, outputs, ...run });
      steps.push(bind({ b, z, y }));
    }
    return steps;
  }
}
