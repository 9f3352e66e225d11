import type { PeerFile, PeerFolder, PeerProblem } from './api.ts';
import { CONFIG } from './formats.ts';

/** More entries than any model has: a whole disk was chosen. */
const MOST_FILES = 20_000;

export type FoundFolder =
  | { readonly folder: PeerFolder; readonly problem: null }
  | { readonly folder: null; readonly problem: PeerProblem };

const wrong = (kind: PeerProblem['kind'], detail = '', file = ''): FoundFolder => ({
  folder: null,
  problem: { kind, file, detail },
});

/** The files of a folder that was picked; where it is no model, of the one folder in it that is. */
export async function folderOfHandle(handle: FileSystemDirectoryHandle): Promise<FoundFolder> {
  try {
    const here = await filesIn(handle);
    if (here === null) return wrong('too-many-files', handle.name);
    if (has(here.files)) return { folder: { name: handle.name, files: here.files }, problem: null };
    const inside: PeerFolder[] = [];
    for (const child of here.folders) {
      const found = await filesIn(child);
      if (found === null) return wrong('too-many-files', child.name);
      if (has(found.files)) inside.push({ name: child.name, files: found.files });
    }
    return only(inside);
  } catch (error) {
    // Gone, changed, or the permission was taken back.
    if (error instanceof DOMException) return wrong('unreadable', error.name, handle.name);
    throw error;
  }
}

/** The model among files that were picked: of a folder, with their paths, or one by one. */
export function folderOfFiles(picked: readonly File[]): FoundFolder {
  if (picked.length > MOST_FILES) return wrong('too-many-files', String(picked.length));
  const folders = new Map<string, PeerFile[]>();
  for (const file of picked) {
    const path = file.webkitRelativePath === '' ? file.name : file.webkitRelativePath;
    const cut = path.lastIndexOf('/');
    const folder = path.slice(0, Math.max(cut, 0));
    const files = folders.get(folder) ?? [];
    const name = path.slice(cut + 1);
    if (files.some((known) => known.name === name)) return wrong('twice', '', name);
    files.push({ name, file });
    folders.set(folder, files);
  }
  const models = [...folders].filter(([, files]) => has(files));
  return only(models.map(([path, files]) => ({ name: path.split('/').at(-1) ?? '', files })));
}

const has = (files: readonly PeerFile[]): boolean => files.some(({ name }) => name === CONFIG);

function only(models: readonly PeerFolder[]): FoundFolder {
  const [first] = models;
  if (first === undefined) return wrong('no-config', '', CONFIG);
  if (models.length > 1) return wrong('several-models', models.map(({ name }) => name).join(', '));
  return { folder: first, problem: null };
}

/** Files and folders directly in a folder; null where they are too many. */
async function filesIn(
  handle: FileSystemDirectoryHandle,
): Promise<{ files: PeerFile[]; folders: FileSystemDirectoryHandle[] } | null> {
  const files: PeerFile[] = [];
  const folders: FileSystemDirectoryHandle[] = [];
  for await (const [name, child] of handle.entries()) {
    if (files.length + folders.length >= MOST_FILES) return null;
    if (child.kind === 'directory') folders.push(child);
    else files.push({ name, file: await child.getFile() });
  }
  return { files, folders };
}
