/** A file that grows at its end. Nothing else may have it open meanwhile. */
export interface FileWriter {
  /**
   * Adds bytes at the end.
   * @throws Failure StorageFull; part of the bytes may be there then
   */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Once it resolves, what was written survives the page, the browser and a cut of the power. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

/**
 * A place that keeps bytes by path ('folder/name'). The store is written against these seven verbs,
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
  /**
   * Opens a file, made where it is missing, to be continued after its first `at` bytes: what lies
   * behind them is cut off.
   * @throws Failure StorageFull, StorageBlocked
   */
  append(path: string, at: number): Promise<FileWriter>;
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

  append(path: string, at: number): Promise<FileWriter> {
    const parts = [(this.#files.get(path) ?? new Uint8Array()).slice(0, at)];
    const keep = (): Promise<void> => {
      const bytes = joined(parts);
      parts.splice(0, parts.length, bytes);
      this.#files.set(path, bytes);
      return Promise.resolve();
    };
    void keep();
    return Promise.resolve({
      write: (bytes) => {
        parts.push(bytes.slice());
        return Promise.resolve();
      },
      flush: keep,
      close: keep,
    });
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

function joined(parts: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
