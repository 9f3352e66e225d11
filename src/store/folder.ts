import { Failure } from '../failure.ts';
import { MAX_MANIFEST_BYTES, type FileInfo } from '../format/manifest.ts';
import type { PackageOrigin } from './journal.ts';
import { manifestOf, stopped, type Delivery, type Origin } from './origin.ts';

/**
 * A package in a folder or on a stick. Only files that the manifest names, beside the manifest, are
 * ever looked at; everything else may lie there.
 */

const MANIFEST = 'manifest.json';
/** More entries than any package has: a whole disk was chosen. */
const MOST_FILES = 20_000;

/** A file as it is now. */
type GetFile = () => Promise<File>;

export class FolderOrigin implements Origin {
  readonly source: PackageOrigin;
  readonly network = false;
  readonly #files: ReadonlyMap<string, GetFile>;

  private constructor(name: string, files: ReadonlyMap<string, GetFile>) {
    this.source = { kind: 'folder', name };
    this.#files = files;
  }

  /**
   * Reads a folder that was picked; where it has no manifest, the one folder in it that has.
   * @throws Failure BadFolder
   */
  static async ofHandle(folder: FileSystemDirectoryHandle): Promise<FolderOrigin> {
    return read(folder.name, async () => {
      const { files, folders } = await lookInto(folder);
      if (files.has(MANIFEST)) return new FolderOrigin(folder.name, files);
      const inside: FolderOrigin[] = [];
      for (const child of folders) {
        const found = await lookInto(await folder.getDirectoryHandle(child));
        if (found.files.has(MANIFEST)) inside.push(new FolderOrigin(child, found.files));
      }
      return only(inside, folder.name);
    });
  }

  /**
   * Takes files that were picked: of a folder, with their paths in it, or one by one.
   * @throws Failure BadFolder where there is no manifest, or several, or a name twice
   */
  static ofFiles(files: readonly File[]): FolderOrigin {
    if (files.length > MOST_FILES) throw bad(`more than ${MOST_FILES} files`);
    const folders = new Map<string, Map<string, GetFile>>();
    for (const file of files) {
      const path = file.webkitRelativePath === '' ? file.name : file.webkitRelativePath;
      const cut = path.lastIndexOf('/');
      const folder = path.slice(0, Math.max(cut, 0));
      const inside = folders.get(folder) ?? new Map<string, GetFile>();
      const name = path.slice(cut + 1);
      if (inside.has(name)) throw bad(`two files are called ${name}`);
      folders.set(
        folder,
        inside.set(name, () => Promise.resolve(file)),
      );
    }
    const packages = [...folders].filter(([, inside]) => inside.has(MANIFEST));
    const origins = packages.map(([folder, inside]) => {
      return new FolderOrigin(folder.split('/').at(-1) ?? '', inside);
    });
    return only(origins, 'the chosen files');
  }

  async manifest(signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const file = await this.#file(MANIFEST);
    if (file.size > MAX_MANIFEST_BYTES) {
      throw new Failure('BadManifest', `${file.size} bytes, more than ${MAX_MANIFEST_BYTES}`);
    }
    return manifestOf(new Slice(file, MANIFEST, 0, signal), MANIFEST);
  }

  open(
    { name, bytes }: FileInfo,
    from: number,
    validator: string | null,
    signal: AbortSignal,
  ): Promise<Delivery> {
    return read(name, async () => {
      const file = await this.#file(name);
      if (file.size !== bytes) {
        throw new Failure('ShardTruncated', `${name}: ${file.size} bytes, not ${bytes}`);
      }
      const isSame = validator === validatorOf(file);
      return new Slice(file, name, isSame ? from : 0, signal);
    });
  }

  #file(name: string): Promise<File> {
    const get = this.#files.get(name);
    if (get === undefined) throw new Failure('NotFound', `${name} is not in the folder`);
    return read(name, get);
  }
}

const validatorOf = (file: File): string => `${file.size}-${file.lastModified}`;

function only(origins: readonly FolderOrigin[], where: string): FolderOrigin {
  const [first] = origins;
  if (first === undefined) throw bad(`${where}: no ${MANIFEST}`);
  if (origins.length > 1) throw bad(`${where}: ${origins.length} packages, not one`);
  return first;
}

async function lookInto(
  folder: FileSystemDirectoryHandle,
): Promise<{ files: Map<string, GetFile>; folders: string[] }> {
  const files = new Map<string, GetFile>();
  const folders: string[] = [];
  for await (const [name, { kind }] of folder.entries()) {
    if (files.size + folders.length >= MOST_FILES) {
      throw bad(`${folder.name}: more than ${MOST_FILES} files`);
    }
    if (kind === 'directory') folders.push(name);
    else files.set(name, async () => (await folder.getFileHandle(name)).getFile());
  }
  return { files, folders };
}

class Slice implements Delivery {
  readonly from: number;
  readonly validator: string;
  readonly #name: string;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  readonly #signal: AbortSignal;

  constructor(file: File, name: string, from: number, signal: AbortSignal) {
    this.from = from;
    this.validator = validatorOf(file);
    this.#name = name;
    this.#signal = signal;
    this.#reader = file.slice(from).stream().getReader();
  }

  next(): Promise<Uint8Array<ArrayBuffer> | null> {
    return read(this.#name, async () => {
      if (this.#signal.aborted) throw stopped();
      const { done, value } = await this.#reader.read();
      return done ? null : value;
    });
  }

  async cancel(): Promise<void> {
    try {
      await this.#reader.cancel();
    } catch (error) {
      // A stream that broke has nothing left to cancel; its failure was told by `next`.
      if (!(error instanceof DOMException)) throw error;
    }
  }
}

/** Names what a folder does when files vanish, change, or may no longer be read. */
async function read<T>(name: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof DOMException)) throw cause;
    throw new Failure('BadFolder', `${name}: ${cause.name}, ${cause.message}`, { cause });
  }
}

function bad(what: string): Failure {
  return new Failure('BadFolder', what);
}
