/**
 * The service worker: keeps the app on the device, answers for the server, and puts our headers on
 * every answer. Model files are not its business: they lie in the browser's file system.
 */
import type { OfflineMessage } from './api.ts';
import { type Entry, Shelf } from './shelf.ts';

declare const self: ServiceWorkerGlobalScope & { readonly __WB_MANIFEST: readonly Entry[] };

const shelf = new Shelf(self.__WB_MANIFEST, {
  caches: self.caches,
  fetch: (request) => fetch(request),
  scope: self.registration.scope,
});

// A new edition waits until the person agrees: an answer may be running.
self.addEventListener('install', (event) => event.waitUntil(shelf.fill()));

self.addEventListener('activate', (event) => {
  event.waitUntil(shelf.tidy().then(() => self.clients.claim()));
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (url.origin !== self.location.origin || url.pathname.includes('/models/')) return;
  event.respondWith(shelf.answer(request).then((answer) => answer ?? fetch(request)));
});

self.addEventListener('message', (event) => {
  const message = event.data as OfflineMessage;
  const reply = (value: unknown): void => event.ports[0]?.postMessage(value);
  const work = async (): Promise<void> => {
    if (message.kind === 'take-over') return self.skipWaiting();
    if (message.kind === 'store-later') await shelf.fillLater();
    reply(await shelf.state());
  };
  event.waitUntil(work().catch((error: unknown) => reply({ error: String(error) })));
});
