import type { PeerModel } from './api.ts';
import { MANIFESTS } from './formats.ts';

/**
 * The only files that the runtime can reach: those of the folder, under addresses of this site that
 * no server has. `fetch` and `caches` of the worker are replaced, so that no byte is stored a second
 * time and no request leaves, whatever the runtime or a library asks for.
 */

/** What of a worker is replaced. */
export interface Surroundings {
  readonly location: { readonly origin: string };
  fetch: typeof fetch;
  caches: CacheStorage;
}

/** The addresses that the runtime is given. */
export interface ServedModel {
  readonly base: string;
  readonly library: string;
}

/** web-llm adds `resolve/main/` to every address that has no `/resolve/NAME/` in it. */
const FOLDER = '/imported-model/resolve/folder/';
const LIBRARY = 'library.wasm';
const [MANIFEST] = MANIFESTS;
/** Other ways to the network that a worker has. */
const waysOut = ['WebSocket', 'XMLHttpRequest', 'EventSource'];

/** Leaves this worker with nothing but the files of one model. */
export function serveOnly(model: PeerModel, where: Surroundings): ServedModel {
  const base = where.location.origin + FOLDER;
  const files = new Map<string, File>();
  for (const { name, file } of model.files) {
    const isManifest = name === model.manifest.name;
    files.set(base + (name === model.library.name ? LIBRARY : isManifest ? MANIFEST : name), file);
  }
  const cache = new FolderCache(files);
  for (const name of waysOut) Reflect.deleteProperty(where, name);
  replace(where, 'fetch', (input: RequestInfo | URL) => cache.fetch(input));
  replace(where, 'caches', { open: () => Promise.resolve(cache) });
  return { base, library: base + LIBRARY };
}

/** Enough of a Cache for the runtime's own one (ArtifactCache in web-llm's lib/index.js). */
class FolderCache {
  readonly #files: ReadonlyMap<string, File>;

  constructor(files: ReadonlyMap<string, File>) {
    this.#files = files;
  }

  fetch(input: RequestInfo | URL): Promise<Response> {
    const address = addressOf(input);
    const file = this.#files.get(address);
    if (file === undefined) {
      return Promise.reject(new TypeError(`${address} is no file of the imported model`));
    }
    const type = address.endsWith('.json') ? 'application/json' : 'application/octet-stream';
    return Promise.resolve(new Response(file, { headers: { 'content-type': type } }));
  }

  async match(input: RequestInfo | URL): Promise<Response | undefined> {
    return this.#files.has(addressOf(input)) ? this.fetch(input) : undefined;
  }

  /** @throws TypeError as a Cache does where nothing comes: there is nothing to bring in */
  async add(input: RequestInfo | URL): Promise<void> {
    await this.fetch(input);
  }

  keys(): Promise<readonly Request[]> {
    return Promise.resolve([...this.#files.keys()].map((address) => new Request(address)));
  }

  /** Nothing is stored, so nothing can be removed. */
  delete(): Promise<boolean> {
    return Promise.resolve(false);
  }
}

const addressOf = (input: RequestInfo | URL): string =>
  typeof input === 'string' ? input : input instanceof URL ? input.href : input.url;

/** `fetch` and `caches` come from the prototype of the worker's scope: an own property hides them. */
function replace(where: Surroundings, name: 'fetch' | 'caches', value: unknown): void {
  Object.defineProperty(where, name, { value, configurable: true, writable: false });
}
