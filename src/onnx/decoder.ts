import type { Manifest } from '../format/manifest.ts';
import { AdapterGraph } from './adapter.ts';
import { attentionInputs, type AttentionInputs } from './attention.ts';
import { GraphBuilder, MICROSOFT } from './graph.ts';
import type { GraphMessage } from './proto.ts';
import { StoredWeights, type WeightOptions } from './weights.ts';

/** What a graph is made of; a package's known answers do not matter to it. */
export type OnnxModel = Pick<Manifest, 'id' | 'config' | 'tensors' | 'adapter'>;

/** The residual stream: what it was, and what has not been added to it yet. */
interface Stream {
  readonly x: string;
  readonly delta: string | null;
}

/**
 * The forward pass of `convert/README.md` as a graph of T new tokens after those in the cache.
 *
 * inputs: input_ids i64 [1, T]; attention_mask i64 [1, S], of which only the length counts;
 * past_key_values.I.key and .value f32 [1, K, S - T, Dh]; with a merged adapter gates f32
 * [linears, E - 1], the rows of `adapter.gates[task]`. outputs: logits f32 [1, 1, V] of the last
 * token; present.I.key and .value f32 [1, K, S, Dh].
 */
export function decoderGraph(model: OnnxModel, options: WeightOptions): GraphMessage {
  const graph = new GraphBuilder();
  const builder = new DecoderBuilder(graph, model, options);
  builder.build();
  return graph.build(model.id);
}

class DecoderBuilder {
  readonly #graph: GraphBuilder;
  readonly #model: OnnxModel;
  readonly #weights: StoredWeights;
  readonly #adapter: AdapterGraph | null;

  constructor(graph: GraphBuilder, model: OnnxModel, options: WeightOptions) {
    this.#graph = graph;
    this.#model = model;
    this.#weights = new StoredWeights(graph, model, options);
    const { adapter } = model;
    this.#adapter = adapter === null ? null : new AdapterGraph(graph, this.#weights, adapter);
  }

  build(): void {
    const graph = this.#graph;
    const { layers, vocab, tiedHead } = this.#model.config;
    const ids = graph.input('input_ids', 'i64', [1, 'tokens']);
    const mask = graph.input('attention_mask', 'i64', [1, 'total']);
    const shared = attentionInputs(graph, this.#model.config, ids, mask);
    let stream: Stream = { x: this.#weights.gather(ids, 'embed'), delta: null };
    for (let layer = 0; layer < layers; layer++) stream = this.#layer(layer, stream, shared);

    const last = graph.integers('last_token', [-1]);
    const pick = (value: string): string =>
      graph.node('Gather', [value, last], { attributes: { axis: 1 } });
    const delta = stream.delta === null ? null : pick(stream.delta);
    const { normed } = this.#norm({ x: pick(stream.x), delta }, 'norm');
    const logits = this.#weights.multiply(normed, tiedHead ? 'embed' : 'head', [0, vocab]);
    graph.node('Identity', [logits], {}, 'logits');
    graph.output('logits', 'f32', [1, 1, vocab]);
  }

  /** x + attention(norm(x)), then + mlp(norm(x)). */
  #layer(layer: number, stream: Stream, shared: AttentionInputs): Stream {
    const name = (part: string): string => `layers.${layer}.${part}`;
    const { mlpWidth, width } = this.#model.config;
    const before = this.#norm(stream, name('attention_norm'));
    const attended = this.#attention(layer, before.normed, shared);
    const added = this.#linear(name('attention_out'), attended, [0, width]);
    const between = this.#norm({ x: before.sum, delta: added }, name('mlp_norm'));
    const gate = this.#linear(name('gate_up'), between.normed, [0, mlpWidth]);
    const up = this.#linear(name('gate_up'), between.normed, [mlpWidth, 2 * mlpWidth]);
    const silu = this.#graph.node('Mul', [gate, this.#graph.node('Sigmoid', [gate])]);
    const inner = this.#graph.node('Mul', [silu, up]);
    return { x: between.sum, delta: this.#linear(name('down'), inner, [0, width]) };
  }

  #attention(layer: number, x: string, shared: AttentionInputs): string {
    const graph = this.#graph;
    const { config } = this.#model;
    const { heads, kvHeads, headDim, qkvBias, qkNorm } = config;
    const [keysAt, valuesAt] = [heads * headDim, (heads + kvHeads) * headDim];
    const end = valuesAt + kvHeads * headDim;
    const bias = qkvBias ? `layers.${layer}.qkv_bias` : undefined;
    const part = (from: number, to: number): string =>
      this.#linear(`layers.${layer}.qkv`, x, [from, to], bias);
    const [query, key, value] = [part(0, keysAt), part(keysAt, valuesAt), part(valuesAt, end)];
    const norms = `layers.${layer}.qk_norm`;
    const cache = ['key', 'value'].map((side) => {
      const shape = (length: string): (number | string)[] => [1, kvHeads, length, headDim];
      const name = `present.${layer}.${side}`;
      graph.output(name, 'f32', shape('total'));
      return { past: graph.input(`past_key_values.${layer}.${side}`, 'f32', shape('past')), name };
    });
    const inputs = [
      qkNorm ? this.#normHeads(query, norms, [0, headDim]) : query,
      qkNorm ? this.#normHeads(key, norms, [headDim, 2 * headDim]) : key,
      value,
      ...cache.map(({ past }) => past),
      shared.lastKey,
      shared.total,
      shared.cosines ?? '',
      shared.sines ?? '',
      ...(shared.bias === null ? [] : ['', shared.bias]),
    ];
    const rotary = shared.cosines === null ? {} : { do_rotary: 1, rotary_interleaved: 0 };
    const [attended = ''] = graph.nodeOf(
      'GroupQueryAttention',
      trimmed(inputs),
      [true, ...cache.map(({ name }) => name)],
      {
        domain: MICROSOFT,
        attributes: { num_heads: heads, kv_num_heads: kvHeads, ...rotary },
      },
    );
    return attended;
  }

  /** RMSNorm of what x and delta add up to, and their sum. */
  #norm({ x, delta }: Stream, weight: string): { readonly normed: string; readonly sum: string } {
    const graph = this.#graph;
    const epsilon = { float: this.#model.config.normEps };
    const scale = this.#weights.plain(weight);
    if (delta === null) {
      const attributes = { axis: -1, epsilon, stash_type: 1 };
      return {
        normed: graph.node('SimplifiedLayerNormalization', [x, scale], { attributes }),
        sum: x,
      };
    }
    const [normed = '', , , sum = ''] = graph.nodeOf(
      'SkipSimplifiedLayerNormalization',
      [x, delta, scale],
      [true, false, false, true],
      { domain: MICROSOFT, attributes: { epsilon } },
    );
    return { normed, sum };
  }

  /** QK-norm: RMSNorm of every head by itself; the heads share one weight. */
  #normHeads(x: string, weight: string, rows: readonly [number, number]): string {
    const graph = this.#graph;
    const { headDim, normEps } = this.#model.config;
    const scale = this.#weights.plain(weight, rows);
    const split = graph.node('Reshape', [x, graph.integers('heads', [0, 0, -1, headDim])]);
    const attributes = { axis: -1, epsilon: { float: normEps }, stash_type: 1 };
    const normed = graph.node('SimplifiedLayerNormalization', [split, scale], { attributes });
    return graph.node('Reshape', [normed, graph.integers('together', [0, 0, -1])]);
  }

  /** x [1, T, K] times rows [from, to) of a tensor, with what the adapter adds to them. */
  #linear(tensor: string, x: string, [from, to]: readonly [number, number], bias?: string): string {
    const spans = this.#adapter?.spans(tensor, from, to) ?? [{ from, to, linear: null }];
    const parts = spans.map(({ from, to, linear }) => {
      const base = this.#weights.multiply(x, tensor, [from, to], bias);
      if (linear === null || this.#adapter === null) return base;
      const low = this.#adapter.low(linear, x, [from, to]);
      return this.#graph.node('Add', [base, low]);
    });
    return this.#graph.concat(parts, -1);
  }
}

/** Inputs that are left out at the end need no name at all. */
function trimmed(inputs: readonly string[]): readonly string[] {
  return inputs.slice(0, inputs.findLastIndex((input) => input !== '') + 1);
}
