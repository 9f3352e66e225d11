import type * as Ort from 'onnxruntime-web';
import type { ModelConfig } from '../../format/manifest.ts';

/** f32 tensors by the name of their input. */
type Tensors = Readonly<Record<string, Ort.Tensor>>;

type Shape = Pick<ModelConfig, 'layers' | 'kvHeads' | 'headDim'>;

/**
 * Keys and values of every layer, f32 [1, K, S, Dh]: what a run gave is what the next one takes.
 * A cache that is shortened is copied, since the tokens of a head lie together.
 */
export class OnnxCache {
  readonly #tensor: typeof Ort.Tensor;
  readonly #shape: Shape;
  #tensors: Tensors = {};
  #length = 0;

  constructor(tensor: typeof Ort.Tensor, shape: Shape) {
    this.#tensor = tensor;
    this.#shape = shape;
    this.truncate(0);
  }

  /** Tokens that it holds. */
  get length(): number {
    return this.#length;
  }

  /** The inputs `past_key_values.I.key` and `.value` of the next run. */
  get inputs(): Tensors {
    return this.#tensors;
  }

  /** Takes the outputs `present.I.key` and `.value` of a run after which there are `length` tokens. */
  take(outputs: Tensors, length: number): void {
    this.#tensors = this.#each((side, layer) => {
      const tensor = outputs[`present.${layer}.${side}`];
      if (tensor?.dims[2] !== length) {
        throw new Error(`layer ${layer} gave no ${side}s of ${length} tokens`);
      }
      return tensor;
    });
    this.#length = length;
  }

  /** Forgets what follows the first `length` tokens. */
  truncate(length: number): void {
    if (!Number.isInteger(length) || length < 0 || length > this.#length) {
      throw new RangeError(`cannot truncate ${this.#length} positions to ${length}`);
    }
    const { kvHeads, headDim } = this.#shape;
    const [from, to] = [this.#length * headDim, length * headDim];
    if (from === to && length > 0) return;
    this.#tensors = this.#each((side, layer) => {
      const values = new Float32Array(kvHeads * to);
      const old = this.#tensors[`past_key_values.${layer}.${side}`]?.data;
      if (old instanceof Float32Array) {
        for (let head = 0; head < kvHeads; head++) {
          values.set(old.subarray(head * from, head * from + to), head * to);
        }
      }
      return new this.#tensor('float32', values, [1, kvHeads, length, headDim]);
    });
    this.#length = length;
  }

  #each(make: (side: 'key' | 'value', layer: number) => Ort.Tensor): Tensors {
    const tensors: Record<string, Ort.Tensor> = {};
    for (let layer = 0; layer < this.#shape.layers; layer++) {
      for (const side of ['key', 'value'] as const) {
        tensors[`past_key_values.${layer}.${side}`] = make(side, layer);
      }
    }
    return tensors;
  }
}
