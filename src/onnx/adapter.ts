import type { AdaptedLinear, AdapterInfo } from '../format/manifest.ts';
import type { GraphBuilder } from './graph.ts';
import type { StoredWeights } from './weights.ts';

/** Rows of a tensor that one linear adapts, or that none does. */
export interface Span {
  readonly from: number;
  readonly to: number;
  readonly linear: AdaptedLinear | null;
}

/**
 * The MoE-Adapter: y += B (g * A x), where g is alpha/r on the rank's rows of the universal expert
 * and alpha/r times its gate on those of each other one. Gates are an input [linears, E - 1] of a
 * merged package, and come from the stored routers, token by token, in a routed one.
 */
export class AdapterGraph {
  readonly #graph: GraphBuilder;
  readonly #weights: StoredWeights;
  readonly #info: AdapterInfo;
  /** Scaled gates by linear, f32 [1, E * r], of a merged package. */
  readonly #merged: ReadonlyMap<AdaptedLinear, string>;

  constructor(graph: GraphBuilder, weights: StoredWeights, info: AdapterInfo) {
    this.#graph = graph;
    this.#weights = weights;
    this.#info = info;
    this.#merged = info.mode === 'merged' ? this.#input() : new Map();
  }

  /** Cuts rows [from, to) of a tensor where adapted linears begin and end. */
  spans(tensor: string, from: number, to: number): Span[] {
    const here = this.#info.linears
      .filter((linear) => linear.tensor === tensor)
      .map((linear) => ({
        from: Math.max(from, linear.rows[0]),
        to: Math.min(to, linear.rows[1]),
        linear,
      }))
      .filter((span) => span.from < span.to)
      .sort((one, other) => one.from - other.from);
    const spans: Span[] = [];
    let row = from;
    for (const span of here) {
      if (row < span.from) spans.push({ from: row, to: span.from, linear: null });
      spans.push(span);
      row = span.to;
    }
    if (row < to) spans.push({ from: row, to, linear: null });
    return spans;
  }

  /** What a linear adds to rows [from, to) of its tensor, for x [1, T, K]. */
  low(linear: AdaptedLinear, x: string, [from, to]: readonly [number, number]): string {
    const graph = this.#graph;
    const transposed = (matrix: string): string =>
      graph.node('Transpose', [matrix], { attributes: { perm: [1, 0] } });
    const first = linear.rows[0];
    const a = transposed(this.#weights.plain(linear.a)); // [K, E r]
    const b = transposed(this.#weights.plain(linear.b, [from - first, to - first])); // [E r, N]
    const gates = this.#merged.get(linear) ?? this.#routed(linear, x);
    const middle = graph.node('Mul', [graph.node('MatMul', [x, a]), gates]);
    return graph.node('MatMul', [middle, b]);
  }

  #input(): Map<AdaptedLinear, string> {
    const graph = this.#graph;
    const { linears, experts } = this.#info;
    const count = linears.length;
    const gates = graph.input('gates', 'f32', [count, experts - 1]);
    const universal = graph.constant('universal', [count, 1], new Float32Array(count).fill(1));
    const rows = this.#spread(graph.concat([universal, gates], -1), [count, -1]);
    if (count === 1) return new Map(linears.map((linear) => [linear, rows]));
    const lengths = graph.integers('gate_rows', linears.map(() => 1)); // prettier-ignore
    const split = graph.nodeOf('Split', [rows, lengths], linears.map(() => true), { attributes: { axis: 0 } }); // prettier-ignore
    return new Map(linears.map((linear, i) => [linear, split[i] ?? '']));
  }

  /** softmax(router x) and the universal expert's 1, spread: [1, T, E * r]. */
  #routed(linear: AdaptedLinear, x: string): string {
    const graph = this.#graph;
    if (linear.router === null) throw new Error(`${linear.linear} has no router`);
    const router = graph.node('Transpose', [this.#weights.plain(linear.router)], {
      attributes: { perm: [1, 0] },
    });
    const gates = graph.node('Softmax', [graph.node('MatMul', [x, router])], {
      attributes: { axis: -1 },
    });
    // The universal expert's gate stands before them: a pad of one with 1.
    const pad = graph.integers('before', [0, 0, 1, 0, 0, 0]);
    const one = graph.constant('one_gate', [], Float32Array.of(1));
    return this.#spread(graph.node('Pad', [gates, pad, one]), [0, 0, -1]);
  }

  /** Gates [..., E] times alpha / r, each r times in a row: [..., E * r] in the given shape. */
  #spread(gates: string, shape: readonly number[]): string {
    const graph = this.#graph;
    const { rank, alpha } = this.#info;
    const scales = new Float32Array(rank).fill(alpha / rank);
    const column = graph.node('Unsqueeze', [gates, graph.integers('gate_axis', [-1])]);
    const spread = graph.node('Mul', [column, graph.constant('gate_scale', [rank], scales)]);
    return graph.node('Reshape', [spread, graph.integers('gate_shape', shape)]);
  }
}
