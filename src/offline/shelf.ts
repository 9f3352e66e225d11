import type { Kept, OfflineState } from './api.ts';
import { securityHeaders } from './headers.ts';

/** A file of this edition; `revision` is null where its name changes with its content. */
export interface Entry {
  readonly url: string;
  readonly revision: string | null;
}

/** Large, and needed only where the GPU does not serve: fetched when there is time. */
const LATER = /(?:^|\/)(?:ort-wasm|onnx|xgrammar)[^/]*$/;
/** Large, and needed only where somebody imports a model of another make: kept from its first use. */
const RARE = /(?:^|\/)web-llm[^/]*$/;
const PREFIX = 'shell-';

/** What of a service worker's surroundings is used. */
export interface ShelfHost {
  readonly caches: CacheStorage;
  readonly fetch: (request: Request) => Promise<Response>;
  /** The folder of the app, ending in '/'. */
  readonly scope: string;
}

/**
 * The files of one edition of the app, in a cache of their own. The edition before stays until the
 * next one comes, so that a page that still runs it finds the parts that it has not loaded yet.
 */
export class Shelf {
  readonly version: string;
  readonly #shell: readonly Entry[];
  readonly #later: readonly Entry[];
  readonly #rare: readonly Entry[];
  readonly #host: ShelfHost;

  constructor(entries: readonly Entry[], host: ShelfHost) {
    this.#host = host;
    const once = [...new Map(entries.map((entry) => [entry.url, entry])).values()];
    this.#later = once.filter(({ url }) => LATER.test(url));
    this.#rare = once.filter(({ url }) => RARE.test(url));
    this.#shell = once.filter(({ url }) => !LATER.test(url) && !RARE.test(url));
    this.version = fingerprint(JSON.stringify(entries));
  }

  /** Keeps every file of the shell, or none. @throws where one of them does not come */
  async fill(): Promise<void> {
    try {
      await Promise.all(this.#shell.map((entry) => this.#keep(entry)));
    } catch (error) {
      await this.#host.caches.delete(this.#name);
      throw error;
    }
  }

  /** Keeps what the shell does without. @throws where a file does not come; the others stay */
  async fillLater(): Promise<void> {
    for (const entry of this.#later) await this.#keep(entry);
  }

  /** Forgets editions before the last one. */
  async tidy(): Promise<void> {
    const names = (await this.#host.caches.keys()).filter((name) => name.startsWith(PREFIX));
    const others = names.filter((name) => name !== this.#name);
    for (const name of others.slice(0, -1)) await this.#host.caches.delete(name);
  }

  /** The answer to a request, with our headers; null where it is not ours to answer. */
  async answer(request: Request): Promise<Response | null> {
    const url = new URL(request.url);
    if (request.method !== 'GET' || !url.href.startsWith(this.#host.scope)) return null;
    const path = url.pathname.slice(new URL(this.#host.scope).pathname.length);
    const kept = await this.#find(path === '' ? 'index.html' : path);
    if (kept !== null) return withHeaders(kept);
    const entry = [...this.#later, ...this.#rare].find((known) => known.url === path);
    if (entry === undefined) return null;
    await this.#keep(entry);
    const now = await this.#find(path);
    return now === null ? null : withHeaders(now);
  }

  async state(): Promise<OfflineState> {
    const cache = await this.#host.caches.open(this.#name);
    const count = async (entries: readonly Entry[]): Promise<Kept> => {
      let kept = 0;
      for (const entry of entries) {
        if ((await cache.match(this.#address(entry.url))) !== undefined) kept += 1;
      }
      return { kept, total: entries.length };
    };
    const { version } = this;
    return { version, shell: await count(this.#shell), later: await count(this.#later) };
  }

  get #name(): string {
    return PREFIX + this.version;
  }

  #address(path: string): string {
    return new URL(path, this.#host.scope).href;
  }

  /** In this edition, then in those before it: their files have other names. */
  async #find(path: string): Promise<Response | null> {
    const address = this.#address(path);
    const names = (await this.#host.caches.keys()).filter((name) => name.startsWith(PREFIX));
    for (const name of [this.#name, ...names.filter((other) => other !== this.#name)]) {
      if (!names.includes(name)) continue;
      const found = await (await this.#host.caches.open(name)).match(address);
      if (found !== undefined) return found;
    }
    return null;
  }

  async #keep({ url, revision }: Entry): Promise<void> {
    const address = this.#address(url);
    const cache = await this.#host.caches.open(this.#name);
    if ((await cache.match(address)) !== undefined) return;
    // A name that changes with the content: what another edition has is the same file.
    const old = revision === null ? await this.#find(url) : null;
    const response = old ?? (await this.#host.fetch(new Request(address, { cache: 'no-cache' })));
    const type = response.headers.get('content-type') ?? '';
    const isPage = /\.html$/.test(url);
    if (!response.ok || (type.includes('text/html') && !isPage)) {
      throw new Error(`${address}: status ${response.status}, ${type}`);
    }
    await cache.put(address, response);
  }
}

/** A copy that carries our headers: what a plain host sent without them becomes safe here. */
function withHeaders(response: Response): Response {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(securityHeaders)) headers.set(name, value);
  return new Response(response.body, { status: 200, headers });
}

/** FNV-1a over the UTF-16 units: tells editions apart, and guards nothing. */
function fingerprint(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  }
  return hash.toString(16).padStart(8, '0');
}
