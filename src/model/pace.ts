/**
 * No submit should take longer: a driver resets a GPU that is silent for some seconds, and whatever
 * else the GPU has to draw waits behind it.
 */
export const SUBMIT_MS = 100;

/**
 * Cuts the layers of a pass over several tokens into submits, by the time that passes before it
 * took. Until one was measured, every layer is a submit of its own.
 */
export class Pace {
  readonly #chunk: number;
  #layerMs = SUBMIT_MS;

  /** @param chunk most tokens of a pass */
  constructor(chunk: number) {
    this.#chunk = chunk;
  }

  /** Layers of one submit, at least one. */
  get layers(): number {
    return Math.max(1, Math.floor(SUBMIT_MS / this.#layerMs));
  }

  /**
   * A pass of so many tokens and layers took this long, with nothing else on the GPU. Fewer tokens
   * than a chunk has take at least their share of its time.
   */
  took(ms: number, tokens: number, layers: number): void {
    this.#layerMs = Math.max(1e-3, (ms / layers) * (this.#chunk / tokens));
  }
}
