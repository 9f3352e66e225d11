import { proxy, wrap, type ProxyMarked } from 'comlink';
import { INSTALLED, type EngineApi, type ModelsApi } from './api.ts';

/** Both are reached by their names: Comlink types only what is marked as objects of the other side. */
interface Remote {
  readonly engine: EngineApi & ProxyMarked;
  readonly models: ModelsApi & ProxyMarked;
}

/** What the worker does for the page. */
export interface Engine extends EngineApi {
  readonly models: ModelsApi;
}

/**
 * Starts the worker that holds model and GPU. What it rejects with has the name and the message of
 * the failure; a worker that cannot start, or breaks, rejects every call.
 */
export function startEngine(): Engine {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  const remote = wrap<Remote>(worker);
  const { engine, models } = remote;
  const broken = new Promise<never>((_, reject) => {
    worker.addEventListener('error', ({ message }) => {
      reject(new Error(message === '' ? 'the worker did not start' : message));
    });
  });
  broken.catch(() => undefined); // It is told to whoever calls; before the first call to nobody.
  const unlessBroken = <T>(call: Promise<T>): Promise<T> => Promise.race([call, broken]);
  return {
    probe: () => unlessBroken(engine.probe()),
    open: (url, onProgress, options) =>
      unlessBroken(engine.open(inPage(url), proxy(onProgress), options)),
    generate: (request, onEvent) => unlessBroken(engine.generate(request, proxy(onEvent))),
    stop: () => unlessBroken(engine.stop()),
    counts: () => unlessBroken(engine.counts()),
    lost: () => unlessBroken(engine.lost()),
    models: {
      list: (bundled) => unlessBroken(models.list(bundled.map(inPage))),
      install: (source, onProgress) =>
        unlessBroken(
          models.install(
            source.kind === 'url' ? { kind: 'url', url: inPage(source.url) } : source,
            proxy(onProgress),
          ),
        ),
      resume: (key, onProgress) => unlessBroken(models.resume(key, proxy(onProgress))),
      pause: () => unlessBroken(models.pause()),
      remove: (key) => unlessBroken(models.remove(key)),
      exportTo: (key, folder, onProgress) =>
        unlessBroken(models.exportTo(key, folder, proxy(onProgress))),
      storage: () => unlessBroken(models.storage()),
      check: (bytes) => unlessBroken(models.check(bytes)),
    },
  };
}

/** An address as the worker can read it: its own base is another one. */
function inPage(url: string): string {
  return url.startsWith(INSTALLED) ? url : new URL(url, document.baseURI).href;
}
