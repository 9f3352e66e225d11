/** Milliseconds of every cut that was measured, by its title; null for one with wrong numbers. */
export type CutTimes = Readonly<Record<string, number | null>>;

/** What was found out about one adapter, driver, shader set and shape. */
export interface Measurements {
  /** Neighbouring lanes that can shuffle; 1 for none. */
  readonly subgroup: number;
  readonly times: CutTimes;
}

/** Where measurements are kept between visits. A store that forgets costs a second, nothing else. */
export interface CalibrationStore {
  /** What `set` was given last for the key, or null. */
  get(key: string): Promise<Measurements | null>;
  set(key: string, measured: Measurements): Promise<void>;
}

/** Adapters and shapes that are remembered; the oldest goes first. */
const MOST_KEYS = 16;

/** Measurements in one JSON text, which the host reads and writes as it likes. */
export class JsonCalibrations implements CalibrationStore {
  readonly #read: () => Promise<string | null>;
  readonly #write: (text: string) => Promise<void>;

  /** @param read the text written last, null where there is none */
  constructor(read: () => Promise<string | null>, write: (text: string) => Promise<void>) {
    this.#read = read;
    this.#write = write;
  }

  async get(key: string): Promise<Measurements | null> {
    return (await this.#entries()).find(([one]) => one === key)?.[1] ?? null;
  }

  async set(key: string, measured: Measurements): Promise<void> {
    const others = (await this.#entries()).filter(([one]) => one !== key);
    const entries = [...others, [key, measured]].slice(-MOST_KEYS);
    await this.#write(JSON.stringify(Object.fromEntries(entries)));
  }

  /** A text that is none of ours is measured anew and written over: nothing in it cannot be lost. */
  async #entries(): Promise<[string, Measurements][]> {
    const text = await this.#read();
    if (text === null) return [];
    const parsed = parse(text);
    return Object.entries(parsed).filter((entry): entry is [string, Measurements] =>
      isMeasured(entry[1]),
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

function isMeasured(value: unknown): value is Measurements {
  if (!isObject(value) || !isObject(value['times'])) return false;
  const { subgroup, times } = value;
  const good = (ms: unknown): boolean => ms === null || (typeof ms === 'number' && ms > 0);
  return Number.isInteger(subgroup) && Number(subgroup) >= 1 && Object.values(times).every(good);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
