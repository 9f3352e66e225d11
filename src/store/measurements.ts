import { createStore, get, set, type UseStore } from 'idb-keyval';

/** What was measured in this browser, as a text that is kept between visits. */
export interface KeptText {
  /** The text written last; null where there is none. */
  readonly read: () => Promise<string | null>;
  readonly write: (text: string) => Promise<void>;
}

/** How fast each kernel ran; which backend answers sooner. */
export type Measured = 'kernels' | 'backends';

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
export function keptMeasurements(
  note: (line: string) => void,
  what: Measured = 'kernels',
): KeptText {
  // A browser may refuse at once, before there is a promise.
  const noted = async <T>(work: () => Promise<T>): Promise<T | null> => {
    try {
      return await work();
    } catch (error) {
      note(`measurements of this device are not kept: ${String(error)}`);
      return null;
    }
  };
  return {
    read: async () => {
      const text = await noted(() => get<unknown>(what, place()));
      return typeof text === 'string' ? text : null;
    },
    write: async (text) => {
      await noted(() => set(what, text, place()));
    },
  };
}
