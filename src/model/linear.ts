import { createAdapterDown } from '../gpu/kernels/adapter_down.ts';
import { createAdapterRoute } from '../gpu/kernels/adapter_route.ts';
import { createAdapterUp } from '../gpu/kernels/adapter_up.ts';
import { createMatmulQ4 } from '../gpu/kernels/matmul_q4.ts';
import { createMatvecQ4 } from '../gpu/kernels/matvec_q4.ts';
import type { Gpu, Step } from '../gpu/gpu.ts';
import type { Adapter } from './adapter.ts';
import type { AdapterSite } from './adapter-site.ts';
import type { State } from './state.ts';
import type { Matrix } from './weights.ts';

/** A product with one of the model's matrices. */
export interface Linear {
  readonly tensor: string;
  readonly matrix: Matrix;
  readonly x: GPUBuffer; // elem [T, K]; with a norm f32
  readonly y: GPUBuffer; // f32 [T, N]; with silu elem [T, N/2]
  readonly add?: boolean; // y += W x instead of y = W x
  /** The norm of x. Not for tiles, nor for a router. */
  readonly norm?: { readonly weight: GPUBuffer; readonly eps: number };
  /** y = silu(first half of the rows) * second half. Not for tiles, nor for a matrix in parts. */
  readonly silu?: boolean;
}

export interface LinearKind {
  readonly tiles: boolean; // by matmul_q4, for many tokens
  readonly several: boolean; // tokens in a pass, where they are few
  readonly routed: boolean; // gates from the router instead of from the task
}

interface LinearParts {
  readonly gpu: Gpu;
  readonly adapter: Adapter | null;
  readonly state: State;
}

/**
 * Makes the steps of y (+)= W x + B (gates * A x), with the adapter where the tensor has one: A
 * first, then W and B in one kernel; with tiles B is a kernel of its own.
 */
export class LinearBuilder {
  readonly #parts: LinearParts;
  readonly #kind: LinearKind;

  constructor(parts: LinearParts, kind: LinearKind) {
    this.#parts = parts;
    this.#kind = kind;
  }

  async steps(linear: Linear): Promise<Step[]> {
    const { adapter } = this.#parts;
    const site = adapter?.sites.get(linear.tensor);
    if (!adapter || !site) return this.#base(linear);
    const down = await this.#down(linear, adapter, site);
    return [...down, ...(await this.#base(linear, site))];
  }

  async #base(linear: Linear, site?: AdapterSite): Promise<Step[]> {
    if (this.#kind.tiles) return this.#tiles(linear, site);
    const { gpu, state } = this.#parts;
    const { x, y, add = false, norm, silu = false } = linear;
    const { parts, columns, rows: outputs } = linear.matrix;
    const fusion = {
      silu,
      several: this.#kind.several,
      ...(norm && { normEps: norm.eps }),
      ...(site && { adapter: site.rows }),
    };
    const bound = {
      params: state.params,
      x,
      y,
      ...(norm && { norm: norm.weight }),
      ...(site && { b: site.b, z: state.middle }),
    };
    return Promise.all(
      parts.map(async ({ buffer: weights, from, rows }) => {
        const bind = await createMatvecQ4(gpu, { columns, rows, from, outputs, add }, fusion);
        return bind({ weights, ...bound });
      }),
    );
  }

  async #tiles({ matrix, x, y, add = false }: Linear, site?: AdapterSite): Promise<Step[]> {
    const { gpu, state } = this.#parts;
    const { parts, columns, rows: outputs } = matrix;
    const steps = await Promise.all(
      parts.map(async ({ buffer: weights, from, rows }) => {
        const bind = await createMatmulQ4(gpu, { columns, rows, from, outputs, add });
        return bind({ params: state.params, weights, x, y });
      }),
    );
    if (site === undefined) return steps;
    const up = await createAdapterUp(gpu, { ...site.rows, outputs });
    return [...steps, up({ b: site.b, z: state.middle, y })];
  }

  /** z = gates * A x, the gates from the router where it is on. */
  async #down({ tensor, x, norm }: Linear, adapter: Adapter, site: AdapterSite): Promise<Step[]> {
    const { gpu, state } = this.#parts;
    const { padded, scale, info } = adapter;
    const { columns, router } = site;
    const { experts, rank } = info;
    const linears = site.linears.length;
    const steps: Step[] = [];
    let gates: GPUBuffer | GPUBufferBinding = site.gates;
    const routes = this.#kind.routed ? state.routes.get(tensor) : undefined;
    const routed = routes !== undefined && router !== null;
    if (routed) {
      const bind = await createAdapterRoute(gpu, { columns, linears, experts, scale });
      steps.push(bind({ router, x, gates: routes }));
      gates = routes;
    }
    const weighed = norm !== undefined;
    const shape = { columns, linears, experts, rank, padded, routed, weighed };
    const bind = await createAdapterDown(gpu, shape);
    const weight = norm && { weight: norm.weight };
    const { a, units } = site;
    steps.push(bind({ a, x, ...weight, gates, units, z: state.middle }));
    return steps;
  }
}
