import type { AdaptedLinear } from '../format/manifest.ts';
import type { TestPackage } from './testing.ts';

/** The model as plain loops in double precision: what the GPU is held to in tests. */

export interface ReferenceResult {
  readonly logits: Float64Array[]; // T of [V]
  readonly hidden: Float64Array[][]; // L + 1 of T of [D]
  readonly gates: ReadonlyMap<string, number[][]>; // by linear, T of [E - 1]
}

type Gates = 'routed' | 'none' | { readonly task: string };

export function referenceForward(
  pkg: TestPackage,
  tokens: readonly number[],
  mode: Gates,
): ReferenceResult {
  return new Reference(pkg, mode).run(tokens);
}

class Reference {
  readonly #package: TestPackage;
  readonly #mode: Gates;
  readonly #gates = new Map<string, number[][]>();

  constructor(pkg: TestPackage, mode: Gates) {
    this.#package = pkg;
    this.#mode = mode;
  }

  run(tokens: readonly number[]): ReferenceResult {
    const { layers, width, tiedHead } = this.#package.manifest.config;
    const embed = this.#values('embed');
    let xs: Float64Array[] = tokens.map((t) =>
      Float64Array.from(embed.subarray(t * width, (t + 1) * width)),
    );
    const hidden = [xs];
    for (let i = 0; i < layers; i++) {
      xs = this.#layer(i, xs);
      hidden.push(xs);
    }
    const head = tiedHead ? 'embed' : 'head';
    const logits = xs.map((x) => this.#product(head, this.#norm('norm', x)));
    return { logits, hidden, gates: this.#gates };
  }

  #layer(i: number, xs: readonly Float64Array[]): Float64Array[] {
    const name = (tensor: string): string => `layers.${i}.${tensor}`;
    const bias = this.#package.values.get(name('qkv_bias')) ?? [];
    const qkv = xs.map((x) =>
      this.#linear(name('qkv'), this.#norm(name('attention_norm'), x)).map(
        (value, n) => value + (bias[n] ?? 0),
      ),
    );
    return this.#attend(i, qkv).map((attended, t) => {
      const x = sum(xs[t] ?? attended, this.#linear(name('attention_out'), attended));
      const gateUp = this.#linear(name('gate_up'), this.#norm(name('mlp_norm'), x));
      const half = gateUp.length / 2;
      const mlp = gateUp.subarray(0, half).map((gate, j) => {
        return (gate / (1 + Math.exp(-gate))) * (gateUp[half + j] ?? 0);
      });
      return sum(x, this.#linear(name('down'), mlp));
    });
  }

  #attend(layer: number, qkv: readonly Float64Array[]): Float64Array[] {
    const { heads, kvHeads, headDim, positions } = this.#package.manifest.config;
    const slopes = positions.kind === 'alibi' ? alibi(heads) : [];
    const part = (t: number, head: number): Float64Array =>
      qkv[t]?.subarray(head * headDim, (head + 1) * headDim) ?? new Float64Array();
    return qkv.map((_, t) => {
      const out = new Float64Array(heads * headDim);
      for (let h = 0; h < heads; h++) {
        const shared = Math.floor(h / (heads / kvHeads));
        const q = this.#turn(this.#headNorm(layer, 0, part(t, h)), t);
        const scores = qkv.slice(0, t + 1).map((_, s) => {
          const k = this.#turn(this.#headNorm(layer, 1, part(s, heads + shared)), s);
          return dot(q, k) / Math.sqrt(headDim) - (slopes[h] ?? 0) * (t - s);
        });
        const weights = softmax(scores);
        weights.forEach((weight, s) => {
          part(s, heads + kvHeads + shared).forEach((v, i) => {
            out[h * headDim + i] = (out[h * headDim + i] ?? 0) + weight * v;
          });
        });
      }
      return out;
    });
  }

  #turn(head: Float64Array, position: number): Float64Array {
    const { positions } = this.#package.manifest.config;
    if (positions.kind === 'alibi') return head;
    const pairs = head.length / 2;
    const turned = Float64Array.from(head);
    for (let i = 0; i < pairs; i++) {
      const angle = position * positions.theta ** (-i / pairs);
      const [a, b] = [head[i] ?? 0, head[i + pairs] ?? 0];
      turned[i] = a * Math.cos(angle) - b * Math.sin(angle);
      turned[i + pairs] = b * Math.cos(angle) + a * Math.sin(angle);
    }
    return turned;
  }

  /** QK-norm of one head where the model has it. side: 0 for queries, 1 for keys. */
  #headNorm(layer: number, side: 0 | 1, head: Float64Array): Float64Array {
    const weight = this.#package.values.get(`layers.${layer}.qk_norm`);
    if (weight === undefined) return head;
    return this.#normed(head, weight.subarray(side * head.length, (side + 1) * head.length));
  }

  #norm(name: string, x: Float64Array): Float64Array {
    return this.#normed(x, this.#values(name));
  }

  #normed(x: Float64Array, weight: Float32Array): Float64Array {
    const { normEps } = this.#package.manifest.config;
    const root = Math.sqrt(dot(x, x) / x.length + normEps);
    return x.map((value, i) => (value / root) * (weight[i] ?? 0));
  }

  /** W x + B (gates * A x) for every adapted linear that lives in the tensor. */
  #linear(tensor: string, x: Float64Array): Float64Array {
    const y = this.#product(tensor, x);
    const { adapter } = this.#package.manifest;
    if (adapter === null || this.#mode === 'none') return y;
    const scale = adapter.alpha / adapter.rank;
    adapter.linears.forEach((linear, index) => {
      if (linear.tensor !== tensor) return;
      const gates = [1, ...this.#gatesOf(linear, index, x)];
      const middle = this.#product(linear.a, x).map((value, j) => {
        return value * scale * (gates[Math.floor(j / adapter.rank)] ?? 0);
      });
      this.#product(linear.b, middle).forEach((value, n) => {
        y[linear.rows[0] + n] = (y[linear.rows[0] + n] ?? 0) + value;
      });
    });
    return y;
  }

  #gatesOf({ linear, router }: AdaptedLinear, index: number, x: Float64Array): number[] {
    if (this.#mode === 'routed') {
      const gates = softmax([...this.#product(router ?? '', x)]);
      this.#gates.set(linear, [...(this.#gates.get(linear) ?? []), gates]);
      return gates;
    }
    const task = typeof this.#mode === 'string' ? '' : this.#mode.task;
    return this.#package.manifest.adapter?.gates[task]?.[index] ?? [];
  }

  #product(name: string, x: Float64Array): Float64Array {
    const w = this.#values(name);
    return Float64Array.from({ length: w.length / x.length }, (_, n) => {
      return dot(w.subarray(n * x.length, (n + 1) * x.length), x);
    });
  }

  #values(name: string): Float32Array {
    const values = this.#package.values.get(name);
    if (values === undefined) throw new Error(`no tensor ${name}`);
    return values;
  }
}

/** 2^(-8k/n) for a power of two; other counts fill up with every second one of twice as many. */
function alibi(heads: number): number[] {
  const power = 2 ** Math.floor(Math.log2(heads));
  const geometric = (n: number): number[] =>
    Array.from({ length: n }, (_, k) => 2 ** ((-8 * (k + 1)) / n));
  const between = geometric(2 * power).filter((_, k) => k % 2 === 0);
  return [...geometric(power), ...between].slice(0, heads);
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += (a[i] ?? 0) * (b[i] ?? 0);
  return total;
}

function sum(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + (b[i] ?? 0));
}

function softmax(scores: readonly number[]): number[] {
  const largest = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - largest));
  const total = weights.reduce((all, weight) => all + weight, 0);
  return weights.map((weight) => weight / total);
}
