/** Runs some work at most once per animation frame, however often it is asked for. */
export class OncePerFrame {
  readonly #work: () => void;
  readonly #request: (run: () => void) => void;
  #waiting = false;

  constructor(work: () => void, request: (run: () => void) => void = nextFrame) {
    this.#work = work;
    this.#request = request;
  }

  /** Asks for the work before the next paint. */
  ask(): void {
    if (this.#waiting) return;
    this.#waiting = true;
    this.#request(() => {
      if (this.#waiting) this.now();
    });
  }

  /** Does the work at once; a frame that was asked for does nothing then. */
  now(): void {
    this.#waiting = false;
    this.#work();
  }
}

function nextFrame(run: () => void): void {
  requestAnimationFrame(run);
}
