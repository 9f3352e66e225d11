import { proxy, type Remote, wrap } from 'comlink';
import { Failure } from '../failure.ts';
import type { PeerApi, PeerCheck, PeerModel, SideEngine } from './api.ts';
import { folderOfFiles, folderOfHandle, type FoundFolder } from './folder.ts';

/** The page's side of the border: every check and every run has a worker of its own. */

/** What a person picked: a folder, or files. */
export type Picked =
  | { readonly kind: 'folder'; readonly folder: FileSystemDirectoryHandle }
  | { readonly kind: 'files'; readonly files: readonly File[] };

interface PeerWorker {
  readonly peer: Remote<PeerApi>;
  /** `call`, or what broke the worker, or Cancelled. */
  readonly until: <T>(call: Promise<T>, signal?: AbortSignal) => Promise<T>;
  readonly end: () => void;
}

/** So long a worker has to give back what it holds. */
const COURTESY_MS = 3000;

function startWorker(): PeerWorker {
  const worker = new Worker(new URL('./peer-worker.ts', import.meta.url), { type: 'module' });
  const broken = new Promise<never>((_, reject) => {
    worker.addEventListener('error', ({ message }) => {
      reject(new Error(message === '' ? 'the worker did not start' : message));
    });
  });
  broken.catch(() => undefined); // It is told to whoever calls; before the first call to nobody.
  return {
    peer: wrap<PeerApi>(worker),
    until: (call, signal) =>
      Promise.race([call, broken, ...(signal === undefined ? [] : [aborted(signal)])]),
    end: () => worker.terminate(),
  };
}

/** Rejects with Cancelled once the signal says so. */
export function aborted(signal: AbortSignal): Promise<never> {
  const ended = new Promise<never>((_, reject) => {
    const end = (): void => reject(new Failure('Cancelled', 'stopped by the person'));
    if (signal.aborted) end();
    signal.addEventListener('abort', end, { once: true });
  });
  ended.catch(() => undefined); // nobody may be waiting any more
  return ended;
}

/**
 * Looks at what was picked, before anything of it runs.
 * @throws Failure Cancelled where the signal ends it
 */
export async function checkPicked(
  picked: Picked,
  onProgress: (part: number) => void,
  signal: AbortSignal,
): Promise<PeerCheck> {
  const found: FoundFolder =
    picked.kind === 'folder' ? await folderOfHandle(picked.folder) : folderOfFiles(picked.files);
  if (found.folder === null) return { problem: found.problem, model: null };
  const { peer, until, end } = startWorker();
  try {
    return await until<PeerCheck>(peer.check(found.folder, proxy(onProgress)), signal);
  } finally {
    end();
  }
}

/** One run of an imported model. */
export function startPeer(model: PeerModel): SideEngine {
  const { peer, until, end } = startWorker();
  return {
    load: (onProgress, signal) => until(peer.open(model, proxy(onProgress)), signal),
    async generate(request, onPiece, signal) {
      const stop = (): void => void until(peer.stop()).catch(() => undefined);
      signal.addEventListener('abort', stop, { once: true });
      if (signal.aborted) stop();
      try {
        return await until(peer.generate(request, proxy(onPiece)));
      } finally {
        signal.removeEventListener('abort', stop);
      }
    },
    async dispose() {
      const patience = new Promise((resolve) => setTimeout(resolve, COURTESY_MS));
      // What a worker that broke still held goes with it.
      await Promise.race([until(peer.close()).catch(() => undefined), patience]);
      end();
    },
  };
}
