import { isObject, KeptMap } from './kept-map.ts';

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

/** Measurements in one JSON text: see `KeptMap`. */
export class JsonCalibrations extends KeptMap<Measurements> implements CalibrationStore {
  /** @param read the text written last, null where there is none */
  constructor(read: () => Promise<string | null>, write: (text: string) => Promise<void>) {
    super(read, write, isMeasured);
  }
}

function isMeasured(value: unknown): value is Measurements {
  if (!isObject(value) || !isObject(value['times'])) return false;
  const { subgroup, times } = value;
  const good = (ms: unknown): boolean => ms === null || (typeof ms === 'number' && ms > 0);
  return Number.isInteger(subgroup) && Number(subgroup) >= 1 && Object.values(times).every(good);
}
