import { Failure } from '../failure.ts';
import type { FileWriter, Place } from './place.ts';

/** What lib.dom leaves out, because only workers have it. */
interface SyncAccessHandle {
  read(into: Uint8Array<ArrayBuffer>, options: { at: number }): number;
  write(bytes: Uint8Array<ArrayBuffer>, options: { at: number }): number;
  truncate(bytes: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

declare global {
  interface FileSystemFileHandle {
    /** `mode` is Chrome 121's; browsers without it ignore it and open for writing. */
    createSyncAccessHandle(options?: {
      mode?: 'read-only' | 'readwrite';
    }): Promise<SyncAccessHandle>;
  }
}

/** Where `reserve` tries sizes on; nothing of ours has this name. */
const TRIAL = 'trial.tmp';

/**
 * The browser's own file system for this origin. Works in a worker only: the synchronous handles
 * are the fastest way in and out, and a killed write leaves its bytes instead of a hidden copy.
 */
export class OpfsPlace implements Place {
  readonly #root: FileSystemDirectoryHandle;

  private constructor(root: FileSystemDirectoryHandle) {
    this.#root = root;
  }

  /** @throws Failure StorageBlocked where the browser gives no such storage */
  static async open(): Promise<OpfsPlace> {
    if (typeof FileSystemFileHandle === 'undefined') throw blocked('no file system');
    if (!('createSyncAccessHandle' in FileSystemFileHandle.prototype)) {
      throw blocked('no synchronous access to files');
    }
    return new OpfsPlace(await named(() => navigator.storage.getDirectory()));
  }

  list(folder: string): Promise<readonly string[]> {
    return named(async () => {
      const directory = await this.#folder(folder.split('/'), false);
      const names: string[] = [];
      if (directory !== null) for await (const name of directory.keys()) names.push(name);
      return names;
    });
  }

  size(path: string): Promise<number | null> {
    return named(async () => {
      const file = await this.#file(path, false);
      return file === null ? null : (await file.getFile()).size;
    });
  }

  read(path: string): Promise<Uint8Array<ArrayBuffer> | null> {
    return named(async () => {
      const file = await this.#file(path, false);
      if (file === null) return null;
      const handle = await access(file, { mode: 'read-only' });
      try {
        const bytes = new Uint8Array(handle.getSize());
        return bytes.subarray(0, handle.read(bytes, { at: 0 }));
      } finally {
        handle.close();
      }
    });
  }

  write(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return named(async () => {
      const file = await this.#file(path, true);
      if (file === null) throw new Error(`${path} could not be made`);
      const handle = await access(file);
      try {
        handle.truncate(0);
        writeAll(handle, bytes, 0, path);
        handle.flush();
      } finally {
        handle.close();
      }
    });
  }

  append(path: string, at: number): Promise<FileWriter> {
    return named(async () => {
      const file = await this.#file(path, true);
      if (file === null) throw new Error(`${path} could not be made`);
      const handle = await access(file);
      try {
        handle.truncate(at);
      } catch (error) {
        handle.close();
        throw error;
      }
      return new OpfsWriter(handle, at, path);
    });
  }

  remove(path: string): Promise<void> {
    return named(async () => {
      const { folders, name } = split(path);
      const directory = await this.#folder(folders, false);
      if (directory === null) return;
      await orNull(directory.removeEntry(name, { recursive: true }));
    });
  }

  /** Growing a file is charged to the quota at once, and makes a sparse file: no byte is written. */
  reserve(bytes: number): Promise<void> {
    return named(async () => {
      const file = await this.#root.getFileHandle(TRIAL, { create: true });
      const handle = await access(file);
      try {
        handle.truncate(bytes);
      } finally {
        handle.close();
        await this.#root.removeEntry(TRIAL);
      }
    });
  }

  async #folder(
    names: readonly string[],
    create: boolean,
  ): Promise<FileSystemDirectoryHandle | null> {
    let directory: FileSystemDirectoryHandle | null = this.#root;
    for (const name of names) {
      if (directory === null) return null;
      directory = await orNull(directory.getDirectoryHandle(name, { create }));
    }
    return directory;
  }

  async #file(path: string, create: boolean): Promise<FileSystemFileHandle | null> {
    const { folders, name } = split(path);
    const directory = await this.#folder(folders, create);
    return directory && orNull(directory.getFileHandle(name, { create }));
  }
}

class OpfsWriter implements FileWriter {
  readonly #handle: SyncAccessHandle;
  readonly #path: string;
  #at: number;

  constructor(handle: SyncAccessHandle, at: number, path: string) {
    this.#handle = handle;
    this.#at = at;
    this.#path = path;
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return named(() => {
      writeAll(this.#handle, bytes, this.#at, this.#path);
      this.#at += bytes.length;
    });
  }

  flush(): Promise<void> {
    return named(() => this.#handle.flush());
  }

  close(): Promise<void> {
    return named(() => this.#handle.close());
  }
}

/** Files that are being opened. */
const opening = new Set<FileSystemFileHandle>();

/**
 * Opens a file. It is held until it is open: where the garbage collector takes the handle meanwhile,
 * Chromium (156, for one) forgets to answer, and whoever waits for the file waits for ever.
 */
async function access(
  file: FileSystemFileHandle,
  options?: { readonly mode: 'read-only' },
): Promise<SyncAccessHandle> {
  opening.add(file);
  try {
    return await file.createSyncAccessHandle(options);
  } finally {
    opening.delete(file);
  }
}

/** Every byte, or StorageFull. */
function writeAll(
  handle: SyncAccessHandle,
  bytes: Uint8Array<ArrayBuffer>,
  at: number,
  path: string,
): void {
  const written = handle.write(bytes, { at });
  // A private window of Chromium does not throw when the quota is used up: it answers with
  // a negative number read as unsigned.
  if (written !== bytes.length) throw full(`${path}: ${written} of ${bytes.length} bytes`);
}

function split(path: string): { folders: string[]; name: string } {
  const folders = path.split('/');
  return { name: folders.pop() ?? '', folders };
}

/** Null for what is not there; every other error goes on. */
async function orNull<T>(entry: Promise<T>): Promise<T | null> {
  try {
    return await entry;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'NotFoundError') return null;
    throw error;
  }
}

/** What browsers say of a bad disk, damaged files, and files that were cleared while they were open. */
const brokenNames = ['UnknownError', 'InvalidStateError', 'NotReadableError', 'AbortError'];

/** Gives the browser's refusals our names. */
async function named<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    if (error.name === 'QuotaExceededError') throw full(error.message, error);
    if (error.name === 'SecurityError') throw blocked(error.message, error);
    if (brokenNames.includes(error.name)) {
      throw new Failure('StorageBroken', `${error.name}: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

function full(what: string, cause?: unknown): Failure {
  return new Failure('StorageFull', what, { cause });
}

function blocked(what: string, cause?: unknown): Failure {
  return new Failure('StorageBlocked', what, { cause });
}
