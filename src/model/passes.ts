import type { Gpu, Step } from '../gpu/gpu.ts';
import type { Forward, ForwardParts } from './forward.ts';
import type { Pace } from './pace.ts';
import type { Choice, Sampling } from './sampling.ts';

/** How a pass is run. */
export interface PassPlan {
  /** Gates from the router instead of the task's. */
  readonly routed: boolean;
  /** The last token's logits are made and go to the staging buffer. */
  readonly head: boolean;
  readonly pace: Pick<Pace, 'layers'>;
}

/** Puts passes of tokens into the GPU's queue. Nothing here waits for them. */
export class Passes {
  readonly #gpu: Gpu;
  readonly #parts: ForwardParts;
  readonly #forward: Forward;
  readonly #sampling: Sampling;
  /** One token of every part of the embedding table: its steps fetch whatever the GPU has chosen. */
  readonly #anyToken: readonly number[];
  readonly #ids: Uint32Array<ArrayBuffer>; // [C]
  readonly #params = new Uint32Array(4);

  constructor(parts: ForwardParts, forward: Forward, sampling: Sampling) {
    this.#gpu = parts.gpu;
    this.#parts = parts;
    this.#forward = forward;
    this.#sampling = sampling;
    this.#anyToken = parts.weights.embed.parts.map(({ from }) => from);
    this.#ids = new Uint32Array(parts.state.chunk);
  }

  /** Writes tokens and params of a pass. @returns its steps, the embedding's and each layer's */
  prepare(
    tokens: readonly number[],
    position: number,
    routed: boolean,
  ): readonly (readonly Step[])[] {
    this.#ids.set(tokens);
    const { queue } = this.#gpu.device;
    queue.writeBuffer(this.#parts.state.tokens, 0, this.#ids, 0, tokens.length);
    this.#writeParams(tokens.length, position);
    return this.#steps(tokens, tokens.length, routed);
  }

  /**
   * Queues tokens [T] that follow `position` others: one in one submit, several in as many as their
   * pace asks for.
   */
  submit(tokens: readonly number[], position: number, { routed, head, pace }: PassPlan): void {
    const { device } = this.#gpu;
    const { logits, staging } = this.#parts.state;
    const lists = this.prepare(tokens, position, routed);
    const most = tokens.length === 1 ? lists.length : pace.layers;
    for (let from = 0; from < lists.length; from += most) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      const some = lists.slice(from, from + most);
      for (const steps of some) this.#gpu.encode(pass, steps, tokens.length);
      const last = head && from + most >= lists.length;
      if (last) this.#gpu.encode(pass, this.#forward.head, 1);
      pass.end();
      if (last) encoder.copyBufferToBuffer(logits, 0, staging, 0, staging.size);
      device.queue.submit([encoder.finish()]);
    }
  }

  /**
   * Queues a choice by the logits that are there.
   * @param position of the token chosen last, whose decode step comes before it; null for none
   */
  choose(position: number | null, routed: boolean): Promise<Choice> {
    const encoder = this.#gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    if (position !== null) {
      this.#writeParams(1, position);
      for (const steps of this.#steps(this.#anyToken, 1, routed)) this.#gpu.encode(pass, steps, 1);
      this.#gpu.encode(pass, this.#forward.head, 1);
    }
    this.#gpu.encode(pass, this.#sampling.steps, 1);
    pass.end();
    const read = this.#sampling.copy(encoder);
    this.#gpu.device.queue.submit([encoder.finish()]);
    return read();
  }

  #steps(tokens: readonly number[], count: number, routed: boolean): readonly (readonly Step[])[] {
    return [...this.#forward.embed(tokens), ...this.#forward.layers(count, routed)];
  }

  #writeParams(tokens: number, position: number): void {
    const { queue } = this.#gpu.device;
    const { state } = this.#parts;
    this.#params.set([tokens, position, 0]);
    queue.writeBuffer(state.params, 0, this.#params);
    this.#params.set([1, position, tokens - 1]);
    queue.writeBuffer(state.headParams, 0, this.#params);
  }
}
