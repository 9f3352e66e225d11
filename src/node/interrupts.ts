/** Exit status of a program that Ctrl-C ended: 128 and the signal's number. */
export const INTERRUPTED = 130;

/**
 * One Ctrl-C can arrive twice: the terminal sends it to every process in front, and `npm run` hands
 * its own on to the program it runs.
 */
const SAME_PRESS_MS = 500;

/** Ctrl-C: the first one stops the running answer, one without an answer to stop leaves. */
export class Interrupts {
  readonly #leave: () => void;
  #answer: AbortController | null = null;
  #stopped = -Infinity;

  constructor(leave: () => void) {
    this.#leave = leave;
  }

  /** Ctrl-C was pressed. */
  readonly press = (): void => {
    const now = performance.now();
    if (this.#answer !== null && !this.#answer.signal.aborted) {
      this.#stopped = now;
      this.#answer.abort();
    } else if (now - this.#stopped > SAME_PRESS_MS) this.#leave();
  };

  /** Runs one answer that Ctrl-C can stop. */
  async during<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    this.#answer = controller;
    try {
      return await work(controller.signal);
    } finally {
      this.#answer = null;
    }
  }
}
