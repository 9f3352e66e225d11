import { proxy, type Remote, wrap } from 'comlink';
import { Failure, startFailure } from '../failure.ts';
import { endWorker, untilDeath } from '../worker/life.ts';
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
  /** Ends it whatever it does, with all calls to it; resolves once it is dead. */
  readonly kill: () => Promise<void>;
}

/** So long a worker has to give back what it holds. */
const COURTESY_MS = 3000;

function startWorker(): PeerWorker {
  const worker = new Worker(new URL('./peer-worker.ts', import.meta.url), { type: 'module' });
  const peer = wrap<PeerApi>(worker);
  const death = peer.life().then((name) => untilDeath(name));
  let isEnded = false;
  let fail: (error: Error) => void = () => undefined;
  const broken = new Promise<never>((_, reject) => {
    fail = reject;
    worker.addEventListener('error', ({ message }) => {
      reject(startFailure(message));
    });
    death.then(() => {
      if (!isEnded) reject(new Failure('WorkerLost', 'the worker has died'));
    }, reject);
  });
  broken.catch(() => undefined); // It is told to whoever calls; before the first call to nobody.
  return {
    peer,
    until: (call, signal) =>
      Promise.race([call, broken, ...(signal === undefined ? [] : [aborted(signal)])]),
    end: () => {
      isEnded = true;
      worker.terminate();
    },
    async kill() {
      isEnded = true;
      await endWorker(worker, death);
      fail(new Failure('WorkerHung', 'the worker was ended'));
    },
  };
}

/** Whether a call came to its end, well or not, in the time that a worker has for it. */
export function inTime(call: Promise<unknown>): Promise<boolean> {
  const over = call.then(
    () => true,
    () => true,
  );
  const late = new Promise<false>((resolve) => setTimeout(() => resolve(false), COURTESY_MS));
  return Promise.race([over, late]);
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
  const { peer, until, end, kill } = startWorker();
  let ending: Promise<void> | null = null;
  const endNow = (): Promise<void> => (ending ??= kill());
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
    end: () => void endNow(),
    async dispose() {
      const isOver = ending === null && (await inTime(until(peer.close())));
      // What a worker that broke still held goes with it.
      if (isOver) end();
      else await endNow();
    },
  };
}
