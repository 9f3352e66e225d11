/** Exit status of a program that Ctrl-C ended: 128 and the signal's number. */
export const INTERRUPTED = 130;

/** Ctrl-C: the first one stops the running answer, one without an answer to stop leaves. */
export class Interrupts {
  readonly #leave: () => void;
  #answer: AbortController | null = null;

  constructor(leave: () => void) {
    this.#leave = leave;
  }

  /** Ctrl-C was pressed. */
  readonly press = (): void => {
    if (this.#answer === null || this.#answer.signal.aborted) this.#leave();
    else this.#answer.abort();
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
