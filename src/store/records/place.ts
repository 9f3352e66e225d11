import { promisifyRequest } from 'idb-keyval';
import { Failure } from '../../failure.ts';

/** One change of a place; `undefined` takes the key away. */
export interface Change {
  readonly key: string;
  readonly value: unknown;
}

/**
 * Where records lie: keys and values that can be cloned. `change` is one transaction: it looks at some
 * keys and writes, and either all of it happens or nothing does.
 * @throws Failure StorageFull, StorageBlocked, StorageBroken
 */
export interface Place {
  get(key: string): Promise<unknown>;
  /** Every key that starts so, with its value, in the order of the keys. */
  list(prefix: string): Promise<[key: string, value: unknown][]>;
  change(
    keys: readonly string[],
    decide: (found: readonly unknown[]) => readonly Change[],
  ): Promise<void>;
  /** Calls back whenever the browser takes the place away: what lay there may be gone. */
  onClosed?(tell: () => void): void;
}

/** The names that the first edition gave; the conversations of that edition lie there. */
const DATABASE = 'pediatricsgpt';
const STORE = 'conversations';

/** The browser's database. Opened at first use: none is made before there is something to keep. */
export class DatabasePlace implements Place {
  #opened: Promise<IDBDatabase> | null = null;
  #tellClosed: () => void = () => undefined;

  onClosed(tell: () => void): void {
    this.#tellClosed = tell;
  }

  get(key: string): Promise<unknown> {
    return named(() => this.#use('readonly', (store) => promisifyRequest<unknown>(store.get(key))));
  }

  list(prefix: string): Promise<[string, unknown][]> {
    return named(() =>
      this.#use('readonly', async (store) => {
        const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
        const [keys, values] = await Promise.all([
          promisifyRequest(store.getAllKeys(range)),
          promisifyRequest(store.getAll(range) as IDBRequest<unknown[]>),
        ]);
        return keys.map((key, i): [string, unknown] => [
          typeof key === 'string' ? key : '',
          values[i],
        ]);
      }),
    );
  }

  change(
    keys: readonly string[],
    decide: (found: readonly unknown[]) => readonly Change[],
  ): Promise<void> {
    return named(() => this.#use('readwrite', (store) => transact(store, keys, decide)));
  }

  async #use<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => Promise<T>): Promise<T> {
    this.#opened ??= this.#open();
    const database = await this.#opened;
    return work(database.transaction(STORE, mode).objectStore(STORE));
  }

  async #open(): Promise<IDBDatabase> {
    try {
      const request = indexedDB.open(DATABASE);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE);
      const database = await promisifyRequest(request);
      // The site's data was cleared, or its files are damaged. The next use opens a new one.
      database.onclose = () => {
        this.#opened = null;
        this.#tellClosed();
      };
      return database;
    } catch (error) {
      this.#opened = null; // the next use tries again
      throw error;
    }
  }
}

/** Reads, decides and writes without leaving the transaction, which ends when nothing is asked. */
function transact(
  store: IDBObjectStore,
  keys: readonly string[],
  decide: (found: readonly unknown[]) => readonly Change[],
): Promise<void> {
  return new Promise((resolve, reject) => {
    const { transaction } = store;
    const found: unknown[] = keys.map(() => undefined);
    let waiting = keys.length;
    let failure: unknown = null;
    const write = (): void => {
      try {
        for (const { key, value } of decide(found)) {
          if (value === undefined) store.delete(key);
          else store.put(value, key);
        }
      } catch (error) {
        failure = error;
        transaction.abort();
      }
    };
    keys.forEach((key, i) => {
      const request = store.get(key) as IDBRequest<unknown>;
      request.onsuccess = () => {
        found[i] = request.result;
        waiting -= 1;
        if (waiting === 0) write();
      };
    });
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(asError(failure ?? transaction.error));
    if (keys.length === 0) write();
  });
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** Records in memory: of a test, or of a page whose browser gives no database. */
export class MemoryPlace implements Place {
  readonly #kept = new Map<string, unknown>();

  get(key: string): Promise<unknown> {
    return Promise.resolve(structuredClone(this.#kept.get(key)));
  }

  list(prefix: string): Promise<[string, unknown][]> {
    const keys = [...this.#kept.keys()].filter((key) => key.startsWith(prefix)).sort();
    return Promise.resolve(keys.map((key) => [key, structuredClone(this.#kept.get(key))]));
  }

  async change(
    keys: readonly string[],
    decide: (found: readonly unknown[]) => readonly Change[],
  ): Promise<void> {
    await Promise.resolve(); // as a database: never before the caller goes on
    const changes = decide(keys.map((key) => structuredClone(this.#kept.get(key))));
    for (const { key, value } of structuredClone(changes)) {
      if (value === undefined) this.#kept.delete(key);
      else this.#kept.set(key, value);
    }
  }
}

async function named<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const name = error instanceof DOMException ? error.name : '';
    const message = error instanceof Error ? error.message : '';
    if (name === 'QuotaExceededError') throw new Failure('StorageFull', message, { cause: error });
    if (name === 'SecurityError' || name === 'InvalidStateError') {
      throw new Failure('StorageBlocked', message, { cause: error });
    }
    // What Chromium says of a bad disk or damaged files, and of work that it gave up for that.
    if (name === 'UnknownError' || name === 'AbortError') {
      throw new Failure('StorageBroken', message, { cause: error });
    }
    throw error;
  }
}
