import type { Offline, OfflineMessage, OfflineState } from './api.ts';

/** One reload is enough to be isolated; a browser that does not allow it gets one thread. */
const RELOADED = 'pediatricsgpt.isolated';
/** How long the first visit waits for the service worker before it goes on without. */
const PATIENCE_MS = 8000;

/** What of a window is used. */
export interface OfflineWindow {
  readonly navigator: { readonly serviceWorker?: ServiceWorkerContainer };
  readonly crossOriginIsolated: boolean;
  readonly sessionStorage: Pick<Storage, 'getItem' | 'setItem'>;
  readonly document: { readonly baseURI: string };
  readonly location: { reload(): void };
  addEventListener(type: 'input', listen: () => void, options: AddEventListenerOptions): void;
}

/**
 * Installs the service worker, which keeps the app on this device.
 *
 * `ready` resolves when the engine may start: on the first visit to a host that sends no headers
 * the page is loaded once more, to have threads, and the promise does not resolve before that. Who
 * has ticked or typed anything by then would lose it: that visit goes on with one thread.
 */
export function startOffline(window: OfflineWindow): { offline: Offline; ready: Promise<void> } {
  const { serviceWorker } = window.navigator;
  if (serviceWorker === undefined) return { offline: without, ready: Promise.resolve() };
  const touched = new Promise<void>((resolve) => {
    window.addEventListener('input', () => resolve(), { once: true, capture: true });
  });
  const registered = register(serviceWorker, window.document.baseURI);
  const ready = registered.then((registration) =>
    registration === null ? undefined : isolated(window, serviceWorker, touched),
  );
  return { offline: new Installed(serviceWorker, registered, window), ready };
}

async function register(
  serviceWorker: ServiceWorkerContainer,
  base: string,
): Promise<ServiceWorkerRegistration | null> {
  try {
    return await serviceWorker.register(new URL('sw.js', base), { updateViaCache: 'none' });
  } catch (error) {
    // A private window, a policy, a self-signed certificate: the app works, but not offline. The
    // page about this device says so.
    // eslint-disable-next-line no-console -- why, for who looks for it
    console.warn('no service worker:', error);
    return null;
  }
}

/** Waits until the page is cross-origin isolated, or cannot be, or is in use. */
async function isolated(
  window: OfflineWindow,
  serviceWorker: ServiceWorkerContainer,
  touched: Promise<void>,
): Promise<void> {
  if (window.crossOriginIsolated || hasReloaded(window)) return;
  const inUse = touched.then(() => false);
  if (!(await Promise.race([inUse, within(PATIENCE_MS, controlled(serviceWorker))]))) return;
  if (!markReloaded(window)) return;
  window.location.reload();
  await new Promise(() => undefined); // this page ends here
}

async function controlled(serviceWorker: ServiceWorkerContainer): Promise<void> {
  if (serviceWorker.controller !== null) return;
  await new Promise<void>((resolve) => {
    serviceWorker.addEventListener('controllerchange', () => resolve(), { once: true });
  });
}

function hasReloaded({ sessionStorage }: OfflineWindow): boolean {
  try {
    return sessionStorage.getItem(RELOADED) !== null;
  } catch {
    return true; // no storage, no count: then rather no reload at all
  }
}

function markReloaded({ sessionStorage }: OfflineWindow): boolean {
  try {
    sessionStorage.setItem(RELOADED, '1');
    return true;
  } catch {
    return false;
  }
}

/** Whether `work` ended in time. */
async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  const late = new Promise<false>((resolve) => setTimeout(() => resolve(false), ms));
  return Promise.race([work.then(() => true), late]);
}

/** Where there is no service worker. */
const without: Offline = {
  onUpdate: () => undefined,
  update: () => undefined,
  state: () => Promise.resolve(null),
  storeLater: () => Promise.resolve(),
};

class Installed implements Offline {
  readonly #container: ServiceWorkerContainer;
  readonly #registered: Promise<ServiceWorkerRegistration | null>;
  readonly #window: OfflineWindow;

  constructor(
    container: ServiceWorkerContainer,
    registered: Promise<ServiceWorkerRegistration | null>,
    window: OfflineWindow,
  ) {
    this.#container = container;
    this.#registered = registered;
    this.#window = window;
  }

  onUpdate(tell: () => void): void {
    void this.#registered.then((registration) => {
      if (registration === null) return;
      const look = (worker: ServiceWorker | null): void => {
        // Without a controller it is the first one: nothing is replaced.
        if (worker?.state === 'installed' && this.#container.controller !== null) tell();
      };
      look(registration.waiting);
      registration.addEventListener('updatefound', () => {
        const worker = registration.installing;
        worker?.addEventListener('statechange', () => look(worker));
      });
    });
  }

  update(): void {
    void this.#registered.then((registration) => {
      const waiting = registration?.waiting;
      if (!waiting) return;
      this.#container.addEventListener('controllerchange', () => this.#window.location.reload(), {
        once: true,
      });
      waiting.postMessage({ kind: 'take-over' } satisfies OfflineMessage);
    });
  }

  async state(): Promise<OfflineState | null> {
    const worker = (await this.#registered)?.active ?? null;
    return worker === null ? null : ask(worker, { kind: 'state' });
  }

  async storeLater(): Promise<void> {
    if ((await this.#registered) === null) return;
    const { active } = await this.#container.ready;
    if (active !== null) await ask(active, { kind: 'store-later' });
  }
}

/** @throws Error where the service worker could not do it */
function ask(worker: ServiceWorker, message: OfflineMessage): Promise<OfflineState> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve, reject) => {
    port1.onmessage = ({ data }: MessageEvent<OfflineState | { error: string }>) => {
      port1.close();
      if ('error' in data) reject(new Error(data.error));
      else resolve(data);
    };
    worker.postMessage(message, [port2]);
  });
}
