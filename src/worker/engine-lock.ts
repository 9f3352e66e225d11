import { Failure } from '../failure.ts';

/**
 * One engine per browser: who has the lock may hold a model. The browser frees it when a window is
 * closed or dies. Another window can ask for it: the holder then ends its answer, lets go of the
 * model, and is told; one that does not answer loses the lock all the same.
 */

const LOCK = 'pediatricsgpt-engine';
/** A page that is left gives its lock up a moment after the next one has started. */
const PATIENCE_MS = 1500;
/** So long the holder has to end its answer. */
const COURTESY_MS = 5000;

export class EngineLock {
  readonly #channel: BroadcastChannel;
  /** Ends the answer and lets go of the model; runs when another window asks for it. */
  readonly #yield: () => Promise<void>;
  #free: (() => void) | null = null;

  constructor(onAsked: () => Promise<void>) {
    this.#yield = onAsked;
    this.#channel = new BroadcastChannel(LOCK);
    this.#channel.addEventListener('message', () => void this.#giveWay());
  }

  /** @throws Failure OtherWindow where another window has it and it is not to be taken */
  async take(takeOver: boolean): Promise<void> {
    if (this.#free !== null) return;
    if (takeOver) this.#channel.postMessage('yield');
    const signal = AbortSignal.timeout(takeOver ? COURTESY_MS : PATIENCE_MS);
    try {
      await this.#request({ signal });
    } catch (error) {
      if (!signal.aborted) throw error;
      if (!takeOver) throw new Failure('OtherWindow', 'another window uses the model');
      await this.#request({ steal: true });
    }
  }

  release(): void {
    this.#free?.();
    this.#free = null;
  }

  /** Resolves once the lock is held, and keeps it until `release`. */
  #request(options: LockOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      let isHeld = false;
      const held = navigator.locks.request(LOCK, options, () => {
        isHeld = true;
        resolve();
        return new Promise<void>((free) => (this.#free = free));
      });
      held.catch((error: unknown) => {
        // Stolen while it was held; before that it was never given.
        if (isHeld) void this.#giveWay();
        else reject(error instanceof Error ? error : new Error(String(error)));
      });
    });
  }

  async #giveWay(): Promise<void> {
    if (this.#free === null) return;
    try {
      await this.#yield();
    } finally {
      this.release();
    }
  }
}
