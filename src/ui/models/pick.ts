import type { InstallSource } from '../../worker/api.ts';

/** Folders of this device, as far as the browser lets a page open them. */

type Picker = (options: { mode: 'read' | 'readwrite' }) => Promise<FileSystemDirectoryHandle>;

function picker(): Picker | null {
  const found: unknown = Reflect.get(globalThis, 'showDirectoryPicker');
  return typeof found === 'function' ? (found as Picker) : null;
}

export const canPickFolders = (): boolean => picker() !== null;

/** The folder that the person picks; null where they do not pick any. */
export async function pickFolder(
  mode: 'read' | 'readwrite',
): Promise<FileSystemDirectoryHandle | null> {
  try {
    return (await picker()?.({ mode })) ?? null;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') return null;
    throw error;
  }
}

/** What an address says that a person typed: of the page's own site, a folder, with or without its manifest. */
export function sourceOf(typed: string, page: string): InstallSource | null {
  const text = typed.trim().replace(/manifest\.json$/, '');
  if (text === '') return null;
  try {
    const url = new URL(text.endsWith('/') ? text : `${text}/`, page);
    url.search = '';
    url.hash = '';
    return /^https?:$/.test(url.protocol) ? { kind: 'url', url: url.href } : null;
  } catch (error) {
    if (error instanceof TypeError) return null; // no address at all
    throw error;
  }
}

export const filesOf = (list: FileList | null): InstallSource | null =>
  list === null || list.length === 0 ? null : { kind: 'files', files: [...list] };
