/**
 * Tells when nobody has touched the page for a while. Two clocks: the one that nobody can set stands
 * still while some computers sleep, the one on the wall does not but may be set back. The later counts.
 */
export class IdleWatch {
  readonly #wall: () => number;
  readonly #steady: () => number;
  #last: { readonly wall: number; readonly steady: number };

  constructor(wall: () => number = Date.now, steady: () => number = () => performance.now()) {
    this.#wall = wall;
    this.#steady = steady;
    this.#last = this.#now();
  }

  /** Somebody is there. */
  touch(): void {
    this.#last = this.#now();
  }

  /** Whether so many minutes have gone by; never for 0. A clock that is set forward may come early. */
  isOver(minutes: number): boolean {
    const { wall, steady } = this.#now();
    const since = Math.max(wall - this.#last.wall, steady - this.#last.steady);
    return minutes > 0 && since >= minutes * 60_000;
  }

  #now() {
    return { wall: this.#wall(), steady: this.#steady() };
  }
}
