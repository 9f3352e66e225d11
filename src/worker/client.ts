import { proxy, wrap, type ProxyMarked } from 'comlink';
import { Failure, startFailure } from '../failure.ts';
import { INSTALLED, type EngineApi, type ModelsApi, type PageEngine } from './api.ts';
import { endWorker, untilDeath } from './life.ts';

/** Both are reached by their names: Comlink types only what is marked as objects of the other side. */
interface Remote {
  readonly engine: EngineApi & ProxyMarked;
  readonly models: ModelsApi & ProxyMarked;
  /** The name of a lock that the worker holds as long as it lives. */
  life(): Promise<string>;
}

/** What the worker does for the page. */
export interface Engine extends PageEngine {
  readonly models: ModelsApi;
  /** Ends the worker with everything that it holds. A later call would start another one. */
  end(): void;
}

interface Running {
  readonly engine: EngineApi;
  readonly models: ModelsApi;
  /** Rejects when the worker cannot start, breaks, dies, or is ended since it hangs. */
  readonly broken: Promise<never>;
  end(): void;
  /** Ends the worker with all calls to it; whether it is known to be dead. */
  kill(): Promise<boolean>;
}

/**
 * Starts the worker that holds model and GPU. What it rejects with has the name and the message of
 * the failure; a worker that cannot start, breaks or dies rejects every call under way, and the next
 * call starts another one, which has no model yet.
 */
export function startEngine(): Engine {
  let running: Running | null = null;
  const current = (): Running => {
    if (running !== null) return running;
    const started = startWorker();
    running = started;
    started.broken.catch(() => {
      if (running === started) running = null;
    });
    return started;
  };
  const call = <T>(work: (worker: Running) => Promise<T>): Promise<T> => {
    const worker = current();
    return Promise.race([work(worker), worker.broken]);
  };
  current();
  return {
    probe: () => call(({ engine }) => engine.probe()),
    open: (url, onProgress, options) =>
      call(({ engine }) => engine.open(inPage(url), proxy(onProgress), options)),
    generate: (request, onEvent) => call(({ engine }) => engine.generate(request, proxy(onEvent))),
    stop: () => call(({ engine }) => engine.stop()),
    counts: () => call(({ engine }) => engine.counts()),
    lost: () => call(({ engine }) => engine.lost()),
    close: () => call(({ engine }) => engine.close()),
    end() {
      running?.end();
      running = null;
    },
    async renew() {
      const hung = running;
      running = null;
      return hung === null || hung.kill();
    },
    models: {
      list: (bundled) => call(({ models }) => models.list(bundled.map(inPage))),
      install: (source, onProgress) =>
        call(({ models }) =>
          models.install(
            source.kind === 'url' ? { kind: 'url', url: inPage(source.url) } : source,
            proxy(onProgress),
          ),
        ),
      resume: (key, onProgress) => call(({ models }) => models.resume(key, proxy(onProgress))),
      pause: () => call(({ models }) => models.pause()),
      remove: (key) => call(({ models }) => models.remove(key)),
      exportTo: (key, folder, onProgress) =>
        call(({ models }) => models.exportTo(key, folder, proxy(onProgress))),
      storage: () => call(({ models }) => models.storage()),
      check: (bytes) => call(({ models }) => models.check(bytes)),
    },
  };
}

function startWorker(): Running {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  const { engine, models, life } = wrap<Remote>(worker);
  const death = life().then((name) => untilDeath(name));
  let isEnded = false;
  let fail: (error: Error) => void = () => undefined;
  const broken = new Promise<never>((_, reject) => {
    fail = reject;
    worker.addEventListener('error', ({ message }) => {
      reject(startFailure(message));
      worker.terminate(); // what is left of it keeps no other worker from the model
    });
    death.then(() => {
      if (!isEnded) reject(new Failure('WorkerLost', 'the worker has died'));
    }, reject);
  });
  broken.catch(() => undefined); // It is told to whoever calls; before the first call to nobody.
  return {
    engine,
    models,
    broken,
    end: () => worker.terminate(),
    async kill() {
      isEnded = true;
      const isDead = await endWorker(worker, death);
      fail(new Failure('WorkerHung', 'the worker was ended'));
      return isDead;
    },
  };
}

/** An address as the worker can read it: its own base is another one. */
function inPage(url: string): string {
  return url.startsWith(INSTALLED) ? url : new URL(url, document.baseURI).href;
}
