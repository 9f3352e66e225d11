/**
 * A place that keeps bytes by path ('folder/name'). The store is written against these six verbs,
 * so that a test can stand in for the browser's storage and fail at any one of them.
 */
export interface Place {
  /** Names of the files and folders in a folder; none where the folder is missing. */
  list(folder: string): Promise<readonly string[]>;
  /** Bytes of a file; null where it is missing. */
  size(path: string): Promise<number | null>;
  /** The whole file; null where it is missing. */
  read(path: string): Promise<Uint8Array<ArrayBuffer> | null>;
  /**
   * Makes or replaces a file, its folders included. Not atomic: when it fails, or the tab dies,
   * the file may be there with any part of the bytes.
   * @throws Failure StorageFull, StorageBlocked
   */
  write(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Removes a file, or a folder with all it holds; a missing one is fine. */
  remove(path: string): Promise<void>;
  /**
   * Asks whether `bytes` more would fit, as far as the browser can say so early. It holds no room:
   * a write may fail all the same.
   * @throws Failure StorageFull
   */
  reserve(bytes: number): Promise<void>;
}

/** A place in memory, for a browser that gives no storage: it forgets all when the tab closes. */
export class MemoryPlace implements Place {
  readonly #files = new Map<string, Uint8Array<ArrayBuffer>>();

  list(folder: string): Promise<readonly string[]> {
    const inside = `${folder}/`;
    const names = new Set<string>();
    for (const path of this.#files.keys()) {
      if (path.startsWith(inside)) names.add(path.slice(inside.length).split('/', 1)[0] ?? '');
    }
    return Promise.resolve([...names]);
  }

  size(path: string): Promise<number | null> {
    return Promise.resolve(this.#files.get(path)?.length ?? null);
  }

  read(path: string): Promise<Uint8Array<ArrayBuffer> | null> {
    return Promise.resolve(this.#files.get(path)?.slice() ?? null);
  }

  write(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#files.set(path, bytes.slice());
    return Promise.resolve();
  }

  remove(path: string): Promise<void> {
    for (const known of this.#files.keys()) {
      if (known === path || known.startsWith(`${path}/`)) this.#files.delete(known);
    }
    return Promise.resolve();
  }

  reserve(): Promise<void> {
    return Promise.resolve();
  }
}
