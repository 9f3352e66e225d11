import { Failure } from '../failure.ts';
import type { FileInfo } from '../format/manifest.ts';
import type { PackageOrigin } from './journal.ts';
import { manifestOf, stopped, webPage, type Delivery, type Origin } from './origin.ts';

/** A package on a server: files over the network, from where they broke off. */

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** So long a server may send nothing before the connection counts as dead. */
const STALL_MS = 15_000;

export class UrlOrigin implements Origin {
  readonly source: PackageOrigin;
  readonly network = true;
  readonly #url: string;
  readonly #fetch: Fetch;
  readonly #stallMs: number;

  /** @param url the package's folder, ending in '/' */
  constructor(url: string, fetchFn: Fetch, stallMs = STALL_MS) {
    this.source = { kind: 'url', url };
    this.#url = url;
    this.#fetch = fetchFn;
    this.#stallMs = stallMs;
  }

  async manifest(signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const url = new URL('manifest.json', this.#url).href;
    const wait = new Wait(signal, this.#stallMs);
    const response = await this.#request(url, {}, wait);
    await expectFile(url, response, wait);
    try {
      return await manifestOf(new Body(url, response, 0, wait), url);
    } catch (error) {
      // Nothing of it is kept, so there is nothing to go on from.
      if (error instanceof Failure && error.name === 'ShardTruncated') {
        throw new Failure('Offline', error.message, { cause: error });
      }
      throw error;
    }
  }

  async open(
    file: FileInfo,
    from: number,
    validator: string | null,
    signal: AbortSignal,
  ): Promise<Delivery> {
    const url = new URL(file.name, this.#url).href;
    const wait = new Wait(signal, this.#stallMs);
    const response = await this.#request(url, rangeHeaders(from, validator), wait);
    if (from > 0 && (response.status === 416 || isUnusable(response, from, file.bytes))) {
      // The server's file is another one by now, or its answer makes no sense: from the start then.
      await wait.end(response);
      return this.open(file, 0, null, signal);
    }
    await expectFile(url, response, wait);
    return new Body(url, response, response.status === 206 ? from : 0, wait);
  }

  async #request(url: string, headers: Record<string, string>, wait: Wait): Promise<Response> {
    try {
      // The store is the cache: a second copy in the browser's own would only take room.
      const init: RequestInit = { cache: 'no-store', headers, signal: wait.signal };
      return await wait.unlessStalled(url, this.#fetch(url, init));
    } catch (cause) {
      wait.over();
      if (cause instanceof TypeError) {
        throw new Failure('Offline', `${url}: ${cause.message}`, { cause });
      }
      throw cause;
    }
  }
}

/** If-Range wants a strong ETag or a date; the hash at the end finds what neither can tell. */
function rangeHeaders(from: number, validator: string | null): Record<string, string> {
  if (from === 0) return {};
  const range = { range: `bytes=${from}-` };
  return validator === null ? range : { ...range, 'if-range': validator };
}

/** Whether a part is not the part that was asked for: its offsets are those of the file itself. */
function isUnusable(response: Response, from: number, bytes: number): boolean {
  if (response.status !== 206) return false;
  if (response.headers.has('content-encoding')) return true;
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
  if (range === null) return true;
  return Number(range[1]) !== from || (range[2] !== '*' && Number(range[2]) !== bytes);
}

/** @throws Failure NotFound, ServerError, NotAShard where a refusal or a web page came */
async function expectFile(url: string, response: Response, wait: Wait): Promise<void> {
  const { status, ok, headers } = response;
  const isPage = headers.get('content-type')?.includes('text/html') === true;
  if (ok && !isPage) return;
  await wait.end(response);
  if (ok) throw webPage(url);
  const isBusy = status >= 500 || status === 429 || status === 408;
  throw new Failure(isBusy ? 'ServerError' : 'NotFound', `${url}: HTTP ${status}`);
}

function validatorOf(response: Response): string | null {
  const tag = response.headers.get('etag');
  if (tag !== null && !tag.startsWith('W/')) return tag;
  return response.headers.get('last-modified');
}

/** Ends what waits too long, or is no longer wanted. */
class Wait {
  readonly #stop: AbortSignal;
  readonly #ms: number;
  readonly #abort = new AbortController();
  readonly #onStop = (): void => this.#abort.abort();

  constructor(stop: AbortSignal, ms: number) {
    this.#stop = stop;
    this.#ms = ms;
    stop.addEventListener('abort', this.#onStop);
    if (stop.aborted) this.#abort.abort();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** @throws Failure Stalled, or Cancelled where the person stopped it */
  async unlessStalled<T>(url: string, work: Promise<T>): Promise<T> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let onAbort = (): void => undefined;
    const stall = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new Failure('Stalled', `${url}: nothing came for ${this.#ms / 1000} s`));
        this.#abort.abort();
      }, this.#ms);
      onAbort = () => reject(stopped());
      this.#abort.signal.addEventListener('abort', onAbort);
      if (this.#stop.aborted) reject(stopped());
    });
    try {
      const result = await Promise.race([work, stall]);
      if (this.#stop.aborted) throw stopped();
      return result;
    } catch (error) {
      if (this.#stop.aborted) throw stopped();
      throw error;
    } finally {
      clearTimeout(timer);
      this.#abort.signal.removeEventListener('abort', onAbort);
    }
  }

  over(): void {
    this.#stop.removeEventListener('abort', this.#onStop);
  }

  /** Gives a connection back. */
  async end(response: Response): Promise<void> {
    this.over();
    if (response.body?.locked === false) await response.body.cancel();
  }
}

class Body implements Delivery {
  readonly from: number;
  readonly validator: string | null;
  readonly #url: string;
  readonly #wait: Wait;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;

  constructor(url: string, response: Response, from: number, wait: Wait) {
    this.from = from;
    this.validator = validatorOf(response);
    this.#url = url;
    this.#wait = wait;
    this.#reader = response.body?.getReader();
  }

  async next(): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.#reader === undefined) return null;
    try {
      const { done, value } = await this.#wait.unlessStalled(this.#url, this.#reader.read());
      return done ? null : value;
    } catch (cause) {
      // Fewer bytes than announced, or a reset: both are a TypeError of the network.
      if (cause instanceof TypeError) {
        throw new Failure('ShardTruncated', `${this.#url}: the connection broke off`, { cause });
      }
      throw cause;
    }
  }

  async cancel(): Promise<void> {
    this.#wait.over();
    try {
      await this.#reader?.cancel();
    } catch (error) {
      // A stream that broke has nothing left to cancel; its failure was told by `next`.
      if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
    }
  }
}
