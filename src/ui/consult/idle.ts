/** Tells when nobody has touched the page for a while. A page that slept knows at once. */
export class IdleWatch {
  readonly #now: () => number;
  #last: number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
    this.#last = now();
  }

  /** Somebody is there. */
  touch(): void {
    this.#last = this.#now();
  }

  /** Whether so many minutes have gone by; never for 0. A clock that went back starts anew. */
  isOver(minutes: number): boolean {
    const since = this.#now() - this.#last;
    if (since < 0) this.touch();
    return minutes > 0 && since >= minutes * 60_000;
  }
}
