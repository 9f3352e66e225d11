import { createStore, promisifyRequest, type UseStore } from 'idb-keyval';
import { Failure } from '../../failure.ts';

/** One change of a place; `undefined` takes the key away. */
export interface Change {
  readonly key: string;
  readonly value: unknown;
}

/**
 * Where records lie: keys and values that can be cloned. `change` is one transaction: it looks at some
 * keys and writes, and either all of it happens or nothing does.
 * @throws Failure StorageFull, StorageBlocked
 */
export interface Place {
  get(key: string): Promise<unknown>;
  /** Every key that starts so, with its value, in the order of the keys. */
  list(prefix: string): Promise<[key: string, value: unknown][]>;
  change(
    keys: readonly string[],
    decide: (found: readonly unknown[]) => readonly Change[],
  ): Promise<void>;
}

/** The browser's database. Opened at first use: none is made before there is something to keep. */
export class DatabasePlace implements Place {
  #opened: UseStore | null = null;

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

  #use: UseStore = (mode, work) => {
    // The name that the first edition gave; the conversations of that edition lie there.
    this.#opened ??= createStore('pediatricsgpt', 'conversations');
    return this.#opened(mode, work);
  };
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
    throw error;
  }
}
