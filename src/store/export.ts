import { Failure } from '../failure.ts';
import type { LoadProgress } from '../worker/api.ts';
import { readVerified } from './install.ts';
import { folderOf, MANIFEST, readModel } from './library.ts';
import { stopped } from './origin.ts';
import type { Place } from './place.ts';

/**
 * Copies a whole package into a folder of its own in `target`, for another device. Every file is
 * verified before it is written; the manifest is written last, so that a copy that broke off is no
 * package.
 * @returns the name of the folder
 * @throws Failure NoModel, ShardCorrupt, StorageFull (no room there), BadFolder (it may not be
 * written, or went away), Cancelled
 */
export async function exportPackage(
  key: string,
  place: Place,
  target: FileSystemDirectoryHandle,
  onProgress: (progress: LoadProgress) => void,
  signal: AbortSignal = new AbortController().signal,
): Promise<string> {
  const model = await readModel(place, key);
  if (model?.ready !== true) throw new Failure('NoModel', `${key} is not here`);
  const { files } = model.manifest;
  const bytesTotal = files.reduce((sum, file) => sum + file.bytes, 0);
  const name = key.replace('@', '-');
  await named(target.name, async () => {
    const folder = await target.getDirectoryHandle(name, { create: true });
    let bytesDone = 0;
    for (const file of files) {
      if (signal.aborted) throw stopped();
      onProgress({ phase: 'check', bytesDone, bytesTotal, file: file.name, network: false });
      const bytes = await readVerified(place, folderOf(key), file);
      if (bytes === null)
        throw new Failure('ShardCorrupt', `${file.name} of ${key} is damaged here`);
      await write(folder, file.name, bytes);
      bytesDone += file.bytes;
    }
    await write(folder, MANIFEST, model.manifestBytes);
    onProgress({ phase: 'check', bytesDone, bytesTotal, file: MANIFEST, network: false });
  });
  return name;
}

async function write(
  folder: FileSystemDirectoryHandle,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const file = await folder.getFileHandle(name, { create: true });
  const writable = await file.createWritable();
  try {
    await writable.write(bytes);
  } catch (error) {
    await writable.abort(error);
    throw error;
  }
  await writable.close();
}

async function named(where: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (cause) {
    if (!(cause instanceof DOMException)) throw cause;
    const name = cause.name === 'QuotaExceededError' ? 'StorageFull' : 'BadFolder';
    throw new Failure(name, `${where}: ${cause.name}, ${cause.message}`, { cause });
  }
}
