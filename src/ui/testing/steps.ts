import { vi } from 'vitest';

/** Frames that a test lets happen. */
export class Frames {
  readonly #waiting: (() => void)[] = [];
  asked = 0;
  readonly request = (run: () => void): void => {
    this.asked += 1;
    this.#waiting.push(run);
  };

  paint(): void {
    for (const run of this.#waiting.splice(0)) run();
  }
}

/** An engine that goes one step at a time. */
export class Gate {
  #open: () => void = () => undefined;
  #isWaiting = false;
  readonly pause = (): Promise<void> =>
    new Promise((resolve) => {
      this.#isWaiting = true;
      this.#open = resolve;
    });

  async step(times = 1): Promise<void> {
    for (let i = 0; i < times; i += 1) {
      await vi.waitUntil(() => this.#isWaiting);
      this.#isWaiting = false;
      this.#open();
    }
    await vi.waitUntil(() => this.#isWaiting);
  }

  async run(): Promise<void> {
    for (let i = 0; i < 50; i += 1) {
      this.#isWaiting = false;
      this.#open();
      await Promise.resolve();
    }
  }
}
