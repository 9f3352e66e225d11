import { proxy, wrap } from 'comlink';
import type { EngineApi } from './api.ts';

/**
 * Starts the worker that holds model and GPU. What it rejects with has the name and the message of
 * the failure; a worker that cannot start, or breaks, rejects every call.
 */
export function startEngine(): EngineApi {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  const remote = wrap<EngineApi>(worker);
  const broken = new Promise<never>((_, reject) => {
    worker.addEventListener('error', ({ message }) => {
      reject(new Error(message === '' ? 'the worker did not start' : message));
    });
  });
  broken.catch(() => undefined); // It is told to whoever calls; before the first call to nobody.
  const unlessBroken = <T>(call: Promise<T>): Promise<T> => Promise.race([call, broken]);
  return {
    probe: () => unlessBroken(remote.probe()),
    // The worker's own address is another one: relative folders are the page's.
    open: (url, onProgress, options) =>
      unlessBroken(remote.open(new URL(url, document.baseURI).href, proxy(onProgress), options)),
    generate: (request, onEvent) => unlessBroken(remote.generate(request, proxy(onEvent))),
    stop: () => unlessBroken(remote.stop()),
    counts: () => unlessBroken(remote.counts()),
    lost: () => unlessBroken(remote.lost()),
  };
}
