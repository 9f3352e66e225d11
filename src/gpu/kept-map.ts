/** Keys that are remembered; the oldest goes first. */
const MOST_KEYS = 16;

/**
 * What was measured, by key, in one JSON text, which the host reads and writes as it likes. A text
 * that is none of ours is measured anew and written over: nothing in it cannot be lost.
 */
export class KeptMap<T> {
  readonly #read: () => Promise<string | null>;
  readonly #write: (text: string) => Promise<void>;
  readonly #isOurs: (value: unknown) => value is T;

  /**
   * @param read the text written last, null where there is none
   * @param isOurs whether a value of the text is one that `set` was given
   */
  constructor(
    read: () => Promise<string | null>,
    write: (text: string) => Promise<void>,
    isOurs: (value: unknown) => value is T,
  ) {
    this.#read = read;
    this.#write = write;
    this.#isOurs = isOurs;
  }

  /** What `set` was given last for the key, or null. */
  async get(key: string): Promise<T | null> {
    return (await this.#entries()).find(([one]) => one === key)?.[1] ?? null;
  }

  async set(key: string, value: T): Promise<void> {
    const others = (await this.#entries()).filter(([one]) => one !== key);
    const entries = [...others, [key, value] as const].slice(-MOST_KEYS);
    await this.#write(JSON.stringify(Object.fromEntries(entries)));
  }

  async #entries(): Promise<[string, T][]> {
    const text = await this.#read();
    if (text === null) return [];
    return Object.entries(parse(text)).filter((entry): entry is [string, T] =>
      this.#isOurs(entry[1]),
    );
  }
}

function parse(text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
