import { Failure } from '../failure.ts';

/** Notices when nothing has happened for too long: a GPU driver can hang without an error. */
export class Watchdog {
  readonly #limitMs: number;
  #last = performance.now();

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  /** Something has happened. */
  touch(): void {
    this.#last = performance.now();
  }

  /**
   * Resolves as `work` does.
   * @throws Failure DeviceLost once `touch` has not been called for the limit; the work itself
   *   cannot be ended and goes on
   */
  async guard<T>(what: string, work: Promise<T>): Promise<T> {
    this.touch();
    let timer: NodeJS.Timeout | undefined;
    const hung = new Promise<never>((_, reject) => {
      timer = setInterval(
        () => {
          if (performance.now() - this.#last < this.#limitMs) return;
          const seconds = this.#limitMs / 1000;
          reject(new Failure('DeviceLost', `${what}: the GPU gave no sign for ${seconds} s`));
        },
        Math.min(1000, this.#limitMs / 4),
      );
    });
    try {
      return await Promise.race([work, hung]);
    } finally {
      clearInterval(timer);
    }
  }
}
