import { createStore, get, set, type UseStore } from 'idb-keyval';

/** How fast this browser's GPUs ran each kernel, as one text that is kept between visits. */
export interface KeptText {
  /** The text written last; null where there is none. */
  readonly read: () => Promise<string | null>;
  readonly write: (text: string) => Promise<void>;
}

const KEY = 'kernels';
let opened: UseStore | null = null;

/** Opened at first use, in a database of its own: to delete it costs a second of measuring. */
function place(): UseStore {
  opened ??= createStore('pediatricsgpt-measurements', 'json');
  return opened;
}

/**
 * Where the browser keeps nothing (a private window, no room left), `note` hears why and everything is
 * measured anew on the next visit: the answers do not depend on it.
 */
export function keptMeasurements(note: (line: string) => void): KeptText {
  // A browser may refuse at once, before there is a promise.
  const noted = async <T>(work: () => Promise<T>): Promise<T | null> => {
    try {
      return await work();
    } catch (error) {
      note(`measurements of this GPU are not kept: ${String(error)}`);
      return null;
    }
  };
  return {
    read: async () => {
      const text = await noted(() => get<unknown>(KEY, place()));
      return typeof text === 'string' ? text : null;
    },
    write: async (text) => {
      await noted(() => set(KEY, text, place()));
    },
  };
}
