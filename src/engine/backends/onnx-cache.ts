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

  /** Bytes that so many tokens make: f32 of every layer's keys, then values, head by head. */
  bytes(tokens: number): number {
    const { layers, kvHeads, headDim } = this.#shape;
    return 2 * layers * kvHeads * tokens * headDim * 4;
  }

  /** A copy of the first tokens. */
  read(tokens: number): Uint8Array<ArrayBuffer> {
    if (tokens > this.#length) {
      throw new RangeError(`the cache holds ${this.#length} tokens, not ${tokens}`);
    }
    const { kvHeads, headDim } = this.#shape;
    const rows = new Float32Array(this.bytes(tokens) / 4);
    let at = 0;
    for (const { data } of Object.values(this.#tensors)) {
      if (!(data instanceof Float32Array)) throw new Error('keys and values are not f32');
      for (let head = 0; head < kvHeads; head++) {
        const from = head * this.#length * headDim;
        rows.set(data.subarray(from, from + tokens * headDim), at);
        at += tokens * headDim;
      }
    }
    return new Uint8Array(rows.buffer);
  }

  /** Puts in what `read` gave. @throws RangeError for another number of bytes */
  write(rows: Uint8Array<ArrayBuffer>, tokens: number): void {
    if (rows.length !== this.bytes(tokens)) {
      throw new RangeError(`${rows.length} bytes for ${tokens} tokens`);
    }
    const { kvHeads, headDim } = this.#shape;
    const values = new Float32Array(rows.slice().buffer); // at a multiple of four, and our own
    const each = kvHeads * tokens * headDim;
    let at = 0;
    this.#tensors = this.#each(() => {
      const part = values.slice(at, at + each);
      at += each;
      return new this.#tensor('float32', part, [1, kvHeads, tokens, headDim]);
    });
    this.#length = tokens;
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
