import type { ModelConfig } from '../format/manifest.ts';
import type { GraphBuilder } from './graph.ts';

/** What the attention of every layer shares. */
export interface AttentionInputs {
  readonly lastKey: string; // i32 [1]: S - 1
  readonly total: string; // i32: S
  readonly cosines: string | null; // f32 [capacity, Dh/2], rotary positions only
  readonly sines: string | null;
  readonly bias: string | null; // f32 [1, H, T, S], linear biases only
}

/**
 * The inputs of GroupQueryAttention that follow from how many tokens there are.
 * @param ids i64 [1, T]
 * @param mask i64 [1, S]
 */
export function attentionInputs(
  graph: GraphBuilder,
  config: ModelConfig,
  ids: string,
  mask: string,
): AttentionInputs {
  const second = graph.integers('second', [1]);
  const total = graph.node('Gather', [graph.node('Shape', [mask]), second]); // i64 [1]
  const one = graph.integers('one', [1]);
  const lastKey = graph.cast(graph.node('Sub', [total, one]), 'i32');
  const none = graph.integers('no_axes', []);
  const scalar = graph.node('Reshape', [total, none]);
  const sizes = { lastKey, total: graph.cast(scalar, 'i32') };
  if (config.positions.kind === 'rope') {
    return { ...sizes, ...rotaryTables(graph, config, config.positions.theta), bias: null };
  }
  const tokens = graph.node('Gather', [graph.node('Shape', [ids]), second]);
  const past = graph.node('Reshape', [graph.node('Sub', [total, tokens]), none]);
  const bias = linearBiases(graph, config.heads, past, scalar);
  return { ...sizes, cosines: null, sines: null, bias };
}

/** Positions p = 64 a + b: a table of all of them would be the larger part of the file. */
const STEP = 64;

/**
 * Cosines and sines of position * theta^(-2i/Dh), f32 [at least capacity, Dh/2]. Two small tables
 * made in f64 stand in the file; what they add up to, cos(A + B) and sin(A + B), is computed when
 * a session is made, and is off by some 1e-7.
 */
function rotaryTables(
  graph: GraphBuilder,
  { capacity, headDim }: ModelConfig,
  theta: number,
): { cosines: string; sines: string } {
  const half = headDim / 2;
  const coarse = Math.ceil(capacity / STEP);
  const table = (
    name: string,
    of: (angle: number) => number,
    rows: number,
    step: number,
  ): string => {
    const values = Float32Array.from({ length: rows * half }, (_, i) =>
      of(Math.floor(i / half) * step * theta ** (-(i % half) / half)),
    );
    const dims = step === 1 ? [1, rows, half] : [rows, 1, half];
    return graph.constant(name, dims, values);
  };
  const cosA = table('cos.coarse', Math.cos, coarse, STEP);
  const sinA = table('sin.coarse', Math.sin, coarse, STEP);
  const cosB = table('cos.fine', Math.cos, STEP, 1);
  const sinB = table('sin.fine', Math.sin, STEP, 1);
  const times = (one: string, other: string): string => graph.node('Mul', [one, other]);
  const shape = graph.integers('rotary_shape', [-1, half]);
  const flat = (value: string): string => graph.node('Reshape', [value, shape]);
  return {
    cosines: flat(graph.node('Sub', [times(cosA, cosB), times(sinA, sinB)])),
    sines: flat(graph.node('Add', [times(sinA, cosB), times(cosA, sinB)])),
  };
}

/** ALiBi: -slope_h * (query position - key position), f32 [1, H, T, S]. */
function linearBiases(graph: GraphBuilder, heads: number, past: string, total: string): string {
  const step = graph.integers('step', 1);
  const range = (from: string, axes: string): string => {
    const numbers = graph.cast(graph.node('Range', [from, total, step]), 'f32');
    return graph.node('Unsqueeze', [numbers, axes]);
  };
  const keys = range(graph.integers('zero', 0), graph.integers('key_axes', [0, 1, 2]));
  const queries = range(past, graph.integers('query_axes', [0, 1, 3]));
  const slopes = graph.constant('slopes', [1, heads, 1, 1], Float32Array.from(alibiSlopes(heads)));
  return graph.node('Mul', [slopes, graph.node('Sub', [keys, queries])]);
}

/**
 * ALiBi's slope of every head: 2^(-8k/n), k = 1..n, for the largest power of two n that is not
 * above their number; the heads beyond it get every second slope of 2n.
 */
function alibiSlopes(heads: number): number[] {
  const n = 2 ** Math.floor(Math.log2(heads));
  return Array.from({ length: heads }, (_, head) =>
    head < n ? 2 ** ((-8 * (head + 1)) / n) : 2 ** ((-4 * (2 * (head - n) + 1)) / n),
  );
}
