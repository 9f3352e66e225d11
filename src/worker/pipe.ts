/**
 * Sends events across the worker border with one message under way at most. What happens in the
 * meantime is merged where `merge` can, so a fast worker never floods a slow page; and because each
 * message is answered, `flush` knows that the page has seen everything. (An event and the result of
 * a call travel on ports of their own: without this the result may arrive first.)
 */
export class Pipe<T> {
  readonly #send: (event: T) => void | Promise<void>;
  readonly #merge: (older: T, newer: T) => T | null;
  readonly #waiting: T[] = [];
  #running: Promise<void> | null = null;
  #error: { readonly cause: unknown } | null = null;

  /** @param merge both events as one, or null where both must arrive */
  constructor(send: (event: T) => void | Promise<void>, merge: (older: T, newer: T) => T | null) {
    this.#send = send;
    this.#merge = merge;
  }

  push(event: T): void {
    const last = this.#waiting.at(-1);
    const merged = last === undefined ? null : this.#merge(last, event);
    if (merged === null) this.#waiting.push(event);
    else this.#waiting[this.#waiting.length - 1] = merged;
    this.#running ??= this.#run();
  }

  /** Resolves when every event has been received. @throws what the receiver threw */
  async flush(): Promise<void> {
    await this.#running;
    if (this.#error !== null) throw this.#error.cause;
  }

  async #run(): Promise<void> {
    try {
      for (let event = this.#waiting.shift(); event !== undefined; event = this.#waiting.shift()) {
        await this.#send(event);
      }
    } catch (cause) {
      this.#error ??= { cause };
      this.#waiting.length = 0;
    }
    this.#running = null;
  }
}
